"""Run beside the learner's code on each rank: training loops that hand every optimizer its own rank's gradient.

The "model" is a vector that is pulled towards a target, another one on every rank: the gradient of
sum(scale · (params − target)²) / 2. It stands for a batch, costs nothing, and has any number of parameters.
"""

import ctypes
import resource

import torch

from aboard.ranks.fingerprint import fingerprint

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def train(answers, scale, target, start, steps, settings):
    """`steps` steps from `start` with this rank's scale and target; the parameters after the last one."""
    params = start.clone()
    optimizer = answers.ShardedAdamW(params, **settings)
    for _ in range(steps):
        optimizer.step(scale * (params - target))
    return params


def train_layers(answers, layers, numel, settings):
    """Steps of a model of `layers` vectors of `numel` elements, each with an optimizer of its own.

    Layer after layer is updated, so what a step needs for a moment is small beside what the optimizers keep. Each time
    it yields what became of some layers (of each its fingerprint, its first and its last element; nothing at first), it
    is given the next ones' numbers, and this rank's gradients for them; nothing when it is over. So which layers take a
    second step is known when all have taken the first one, and what it needs of the first has to be kept for each.
    Returns what whole-layer tensors the first optimizer still holds (to name a mistake only; how much memory it is, the
    kernel says).
    """
    # In place of what was given back, so that the growth that is measured begins at zero and not below.
    ballast = torch.ones(give_back_what_is_freed() // 4 + 500_000)
    model = [torch.linspace(0.5, 1.5 + layer, numel) for layer in range(layers)]
    optimizers = [answers.ShardedAdamW(params, **settings) for params in model]
    given = yield []
    while given:
        became = []
        for layer, gradient in given:
            optimizers[layer].step(gradient)
            params = model[layer]
            became.append([fingerprint(params), float(params[0]), float(params[-1])])
        del gradient
        given = yield became
    del ballast
    return whole_tensors(optimizers[0], model[0])


def whole_tensors(optimizer, params):
    """[elements seen, elements of storage] of each tensor in `optimizer` as long as the layer, other than `params`."""
    found, seen, waiting = [], {params.untyped_storage().data_ptr()}, [optimizer]
    for value in waiting:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            if storage.data_ptr() not in seen and storage.nbytes() >= 0.9 * params.nbytes:
                seen.add(storage.data_ptr())
                found.append([value.numel(), storage.nbytes() // value.element_size()])
        elif isinstance(value, dict) and len(waiting) < 1000:
            waiting += value.values()
        elif isinstance(value, list | tuple) and len(waiting) < 1000:
            waiting += value
        elif hasattr(value, "__dict__") and not isinstance(value, type) and len(waiting) < 1000:
            waiting += vars(value).values()
    return found


def give_back_what_is_freed():
    """Let the kernel see what is in use: free blocks go back to it now, and later ones above 64 KiB when they are freed.

    By itself glibc keeps freed blocks, in a heap for each of gloo's threads. Returns how many bytes went back now.
    Other C libraries: nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        before = own_memory()
        libc.mallopt(M_MMAP_THRESHOLD, 65536)
        libc.malloc_trim(0)
        return max(0, before - own_memory())
    except (OSError, AttributeError):
        return 0


def own_memory():
    """Anonymous memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * resource.getpagesize()
