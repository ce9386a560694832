"""Run beside the learner's code on each rank: two models made of units, and their batches."""

import ctypes
import resource
from functools import partial

import torch

from aboard.ranks.fingerprint import fingerprint

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
# This loads the rest of torch: here once, not in every rank where it would be counted
torch.optim.SGD([torch.zeros(1)], lr=0.1)


def dense(rows, columns, p, x):
    """A dense layer with tanh: p is its matrix [rows, columns] and its bias, flat."""
    return torch.tanh(x @ p[: rows * columns].view(rows, columns) + p[rows * columns :])


def dense_units(widths):
    return [partial(dense, a, b) for a, b in zip(widths, widths[1:], strict=False)]


def lengths(widths):
    return [(a + 1) * b for a, b in zip(widths, widths[1:], strict=False)]


def distance(target, y):
    return (y - target).square().sum(-1).mean()


def train(answers, xs, targets, start, widths, settings):
    """A step for each batch: the parameters of all units after the last one, and the norms that were told."""
    starts = start.split(lengths(widths))
    trainer = answers.Zero3(dense_units(widths), lambda i: starts[i].clone(), **settings)
    norms = [trainer.step(x, partial(distance, t)) for x, t in zip(xs, targets, strict=True)]
    return {
        "params": torch.cat([trainer.full(i) for i in range(len(starts))]),
        "norms": [float(n) for n in norms],
    }


def wide(width, hidden, p, x):
    """x + tanh(x @ up + bias) @ down: p is up [width, hidden], down [hidden, width] and bias [hidden], flat.

    All of its parameters count, and so do all rows in its gradient: there is no short way to either.
    """
    up, down, bias = p.split([width * hidden, width * hidden, hidden])
    return x + 0.1 * torch.tanh(x @ up.view(width, hidden) + bias) @ down.view(hidden, width)


def wide_start(width, hidden, i):
    return torch.empty((2 * width + 1) * hidden).uniform_(
        -0.2, 0.2, generator=torch.Generator().manual_seed(i)
    )


def train_large(answers, layers, width, hidden, settings):
    """Two steps of `layers` wide units; per unit a fingerprint of its parameters and its last one; what is held whole.

    Each time it yields the norm that was told (0.0 at first), it is given this rank's batch for the next step, input and
    target [rows, width] each: nobody has the others' rows, nor those of a later step.
    """
    # In place of what was given back, so that the growth that is measured begins at zero and not below.
    ballast = torch.ones(give_back_what_is_freed() // 4 + 500_000)
    trainer = answers.Zero3(
        [partial(wide, width, hidden)] * layers, partial(wide_start, width, hidden), **settings
    )
    told = 0.0
    for _ in range(2):
        x, target = yield told
        told = float(trainer.step(x, partial(distance, target)))
    held, prints = whole_tensors(trainer, (2 * width + 1) * hidden), []
    for i in range(layers):
        p = trainer.full(i)
        prints.append([fingerprint(p), float(p[-1])])
        del p
    del ballast
    return {"prints": prints, "held": held}


def whole_tensors(trainer, numel):
    """Names of the trainer's attributes that hold storages as long as a unit. It names a mistake; the kernel measures."""
    found = []
    for name, value in vars(trainer).items():
        items = (
            value.values()
            if isinstance(value, dict)
            else value
            if isinstance(value, list | tuple)
            else [value]
        )
        tensors = [t for t in items if isinstance(t, torch.Tensor)]
        if any(t.untyped_storage().nbytes() >= 0.9 * numel * t.element_size() for t in tensors):
            found.append(str(name))
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
