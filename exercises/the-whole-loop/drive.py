"""Run beside the learner's code on each rank: a small model of tokens, its data, and everything that is asked of the answers.

Gradients are averaged by PyTorch's own DistributedDataParallel. It is told to do so by a hook in Python, so that what it sends
is counted like all other collectives.
"""

import ctypes
import resource
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

IGNORE = -100
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h

# The first optimizer of a process imports hundreds of modules of torch. Ranks are forked: do it once, before they are.
torch.optim.SGD([torch.zeros(1)], lr=0.1)


class Net(nn.Module):
    """Tokens [rows, length] → logits [rows, length, vocabulary]. sizes: (vocabulary, width). All values follow from `seed`."""

    def __init__(self, sizes, seed, norm=nn.Identity):
        super().__init__()
        vocabulary, width = sizes
        self.embed = nn.Embedding(vocabulary, width)
        self.mix = nn.Linear(width, width)
        self.norm = norm(width)
        self.head = nn.Linear(width, vocabulary)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            size = (
                1.0
                if parameter.dim() < 2 or parameter is self.embed.weight
                else 1.5 / parameter.shape[1] ** 0.5
            )
            parameter.data.uniform_(-size, size, generator=generator)

    def forward(self, tokens):
        x = torch.tanh(self.mix(self.embed(tokens)))
        return self.head(self.norm(x.transpose(1, 2)).transpose(1, 2))


def parallel(model):
    """`model` in DistributedDataParallel. The ranks start alike, so nothing is sent at the beginning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of PyTorch rename broadcast_buffers
        wrapped = DistributedDataParallel(model, init_sync=False, broadcast_buffers=False, bucket_cap_mb=1000)
    wrapped.register_comm_hook(None, mean_over_ranks)
    return wrapped


def mean_over_ranks(state, bucket):
    """Replace a bucket of gradients by its mean over the ranks, as DistributedDataParallel does by itself."""
    flat = bucket.buffer()
    dist.all_reduce(flat, async_op=True).wait()
    flat /= dist.get_world_size()
    done = torch.futures.Future()
    done.set_result(flat)
    return done


def make_optimizer(model, settings):
    """torch.optim.SGD or AdamW on all parameters."""
    settings = dict(settings)
    kind = {"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}[settings.pop("kind")]
    return kind(model.parameters(), **settings)


def vector(tensors):
    """Tensors as one row of numbers."""
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def buffers(model):
    """The buffers with floats, as one row of numbers."""
    floats = [b for b in model.buffers() if b.is_floating_point()]
    return vector(floats) if floats else torch.zeros(0)


# --- the sampler -------------------------------------------------------------------------------------------------


def orders(answers, cases):
    """For each case (size, world, seed, training) and rank: len(), and the numbers of epochs 0, 0, 1, 2, 0."""
    found = []
    for number, (size, world, seed, training) in enumerate(cases):
        found.append([])
        for rank in range(world):
            # As different on each rank as in the processes of a real job
            torch.manual_seed(1000 * number + rank)
            sampler = answers.ShardSampler(size, rank, world, seed=seed, training=training)
            epochs = [list(sampler), list(sampler)]
            for epoch in (1, 2, 0):
                sampler.set_epoch(epoch)
                epochs.append(list(sampler))
            found[-1].append({"len": len(sampler), "epochs": epochs})
    return found


def parts(answers, cases):
    """For each case (size, world, training): the numbers of each rank, in epoch 0."""
    return [
        [list(answers.ShardSampler(size, rank, world, training=training)) for rank in range(world)]
        for size, world, training in cases
    ]


# --- training ----------------------------------------------------------------------------------------------------


def train(answers, inputs, targets, sizes, seed, settings, epochs, micro_batch, accumulate, dtype):
    """Each of `epochs` (their numbers) with train_epoch with PyTorch's own sampler; the losses of every epoch, and the parameters at the end."""
    model = Net(sizes, seed).to(dtype)
    optimizer, wrapped = make_optimizer(model, settings), parallel(model)
    sampler = DistributedSampler(range(len(inputs)), dist.get_world_size(), dist.get_rank(), seed=seed)
    losses = [
        answers.train_epoch(wrapped, optimizer, sampler, inputs, targets, epoch, micro_batch, accumulate)
        for epoch in epochs
    ]
    return {"losses": losses, "last": vector(model.parameters())}


def large_steps(answers, inputs, targets, sizes, accumulate):
    """One epoch of steps of `accumulate` micro-batches with one row each, on a larger model; losses and parameters."""
    model = Net(sizes, 1)
    optimizer, wrapped = make_optimizer(model, {"kind": "SGD", "lr": 0.1}), parallel(model)
    sampler = DistributedSampler(range(len(inputs)), dist.get_world_size(), dist.get_rank(), shuffle=False)
    losses = answers.train_epoch(wrapped, optimizer, sampler, inputs, targets, 0, 1, accumulate)
    return {"losses": losses, "last": vector(model.parameters())}


# --- metrics -----------------------------------------------------------------------------------------------------


def measure(answers, inputs, targets, training, sizes, seed, running, micro_batch):
    """What evaluate says of a model with a BatchNorm1d, which comes in training mode or not; and how it leaves the model."""
    model = Net(sizes, seed, nn.BatchNorm1d)
    model.norm.running_mean.copy_(running[0])
    model.norm.running_var.copy_(running[1])
    before = buffers(model)
    model.train(training)
    said = answers.evaluate(model, inputs, targets, micro_batch)
    return {"said": said, "mode": model.training, "kept": bool(torch.equal(buffers(model), before))}


# --- batch normalisation -----------------------------------------------------------------------------------------


def make_norm(kind, settings, affine, dtype):
    """A layer of `kind` with momentum, eps, weight, bias and running statistics as given."""
    channels = len(affine[0])
    layer = kind(channels, **settings).to(dtype)
    with torch.no_grad():
        for mine, value in zip(
            (layer.weight, layer.bias, layer.running_mean, layer.running_var), affine, strict=True
        ):
            mine.copy_(value)
    return layer


def statistics(answers, cases, evaluations):
    """Per case (inputs, settings, affine, dtype): forward passes in training mode, then `evaluations` of the last input."""
    return [statistics_of(answers, *case, evaluations) for case in cases]


def statistics_of(answers, inputs, settings, affine, dtype, evaluations):
    layer = make_norm(answers.SyncBatchNorm, settings, affine, dtype)
    results, means, variances = [], [], []
    for x in inputs:
        results.append(layer(x).detach())
        means.append(layer.running_mean.clone())
        variances.append(layer.running_var.clone())
    layer.eval()
    later = [layer(inputs[-1]).detach() for _ in range(evaluations)]
    kept = bool(torch.equal(layer.running_mean, means[-1]) and torch.equal(layer.running_var, variances[-1]))
    return {"results": results, "means": means, "variances": variances, "later": later, "kept": kept,
            "batches": int(layer.num_batches_tracked)}  # fmt: skip


def gradients(answers, x, pull, settings, affine, dtype):
    """The gradients of sum(result * pull) with respect to this rank's input and to weight and bias."""
    layer = make_norm(answers.SyncBatchNorm, settings, affine, dtype)
    x = x.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an all_reduce that autograd does not know: the numbers will tell
        y = layer(x)
        (y * pull).sum().backward()
    return {"y": y.detach(), "input": x.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}


# --- all together ------------------------------------------------------------------------------------------------


def loop(answers, inputs, targets, sizes, seed, settings, epochs, micro_batch, accumulate):
    """Two epochs with the answers alone, in float64, with an evaluation after each."""
    rank, world = dist.get_rank(), dist.get_world_size()
    model = Net(sizes, seed, answers.SyncBatchNorm).double()
    optimizer, wrapped = make_optimizer(model, settings), parallel(model)
    sampler = answers.ShardSampler(len(inputs), rank, world, seed=seed)
    losses, said = [], []
    for epoch in range(epochs):
        losses.append(
            answers.train_epoch(wrapped, optimizer, sampler, inputs, targets, epoch, micro_batch, accumulate)
        )
        said.append(answers.evaluate(model, inputs, targets, micro_batch))
    reads = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        reads.append(list(sampler))
    return {
        "losses": losses,
        "said": said,
        "reads": reads,
        "last": vector(model.parameters()),
        "buffers": buffers(model),
    }


# --- cost --------------------------------------------------------------------------------------------------------


def talk(answers, x, inputs, targets):
    """A forward and backward pass of SyncBatchNorm on `x`, and evaluate; None where there is nothing to do.

    Returns means over the channels: of the result, and of the gradient of the sum over all rows of sin(Σ result²).
    """
    found = {"y": None, "grad": None, "said": None}
    if x is not None:
        x = x.requires_grad_()
        y = answers.SyncBatchNorm(x.shape[1])(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y.square().sum(1).sin().sum().backward()
        found |= {"y": y.detach().mean(1), "grad": x.grad.mean(1)}
    if inputs is not None:
        found["said"] = answers.evaluate(Parrot(8), inputs, targets, 500)
    return found


class Parrot(nn.Module):
    """Says every token again, with logit 5; the others have 0."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.size = vocabulary, nn.Parameter(torch.tensor(5.0))

    def forward(self, tokens):
        return nn.functional.one_hot(tokens, self.vocabulary).to(self.size.dtype) * self.size


def room(answers, inputs, targets, vocabulary, which):
    """evaluate, and one step of train_epoch, 2 rows at a time."""
    # In place of what was given back, so that the growth that is measured begins at zero and not below.
    ballast = torch.ones(give_back_what_is_freed() // 4 + 500_000)
    model, found = Parrot(vocabulary), {"said": None, "losses": None}
    if "metrics" in which:
        found["said"] = answers.evaluate(model, inputs, targets, 2)
    if "training" in which:
        optimizer, wrapped = make_optimizer(model, {"kind": "SGD", "lr": 0.0}), parallel(model)
        sampler = DistributedSampler(
            range(len(inputs)), dist.get_world_size(), dist.get_rank(), shuffle=False
        )
        found["losses"] = answers.train_epoch(wrapped, optimizer, sampler, inputs, targets, 0, 2, len(inputs))
    del ballast
    return found


def give_back_what_is_freed():
    """Let the kernel see what is in use: free blocks go back to it now, and later ones above 64 KiB when they are freed.

    By itself glibc keeps freed blocks. Returns how many bytes went back now. Other C libraries: nothing happens.
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
