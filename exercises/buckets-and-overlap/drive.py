"""Run beside the learner's code on each rank: two models whose gradients are given, and a backward pass with a gate in it.

A "forward pass" here is a sum of parameter times number, so a gradient is whatever number was drawn, and the order in which
gradients arrive is the reverse of the order in which the sum was written. `Gate` is a place in the backward pass where
something else happens before the rest of the gradients exist.
"""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from queue import SimpleQueue

import torch
import torch.distributed as dist
from torch import nn

from aboard.ranks.fingerprint import fingerprint

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LAG_S = 0.03  # how much later than the others one rank begins a backward pass
PATIENCE_S = 5.0  # how long a rank waits for others that should be able to go on without it

# The first optimizer of a process imports hundreds of modules of torch. Ranks are forked: do it once, before they are.
torch.optim.SGD([torch.zeros(1)], lr=0.1)


class Net(nn.Module):
    """A tied embedding, blocks of two parameters, one of them frozen, and a scale without dimensions.

    sizes: (vocabulary, width, hidden). dtypes: (of matrices, of everything else).
    """

    def __init__(
        self, sizes: tuple[int, int, int], blocks: int, dtypes: tuple[torch.dtype, torch.dtype]
    ) -> None:
        super().__init__()
        vocabulary, width, hidden = sizes
        matrix, other = dtypes
        self.embed = nn.Module()
        self.embed.weight = nn.Parameter(torch.zeros(vocabulary, width, dtype=matrix))
        self.blocks = nn.ModuleList()
        for _ in range(blocks):
            block = nn.Module()
            block.weight = nn.Parameter(torch.zeros(hidden, width, dtype=matrix))
            block.bias = nn.Parameter(torch.zeros(hidden, dtype=other))
            self.blocks.append(block)
        self.blocks[blocks // 2].weight.requires_grad_(False)
        self.top = nn.Module()
        self.top.scale = nn.Parameter(torch.zeros((), dtype=other))
        self.top.out = nn.Parameter(torch.zeros(2 * width, width, dtype=matrix))
        self.top.norm = nn.Parameter(torch.zeros(width, dtype=other))
        self.head = nn.Module()
        self.head.weight = self.embed.weight  # tied: one parameter with two names

    def forward(self, pulls: dict[str, torch.Tensor], order: list[str]) -> torch.Tensor:
        """The sum over `order` of parameter times pull; backward meets the names from the last to the first."""
        parameters = dict(self.named_parameters(remove_duplicate=False))
        loss = torch.zeros((), dtype=torch.float64)
        for name in order:
            loss = loss + (parameters[name].double() * pulls[name].double()).sum()
        return loss


def uses(model: nn.Module) -> list[str]:
    """The names that a forward pass uses, in its order: all that is trainable, the tied weight first and last."""
    return [n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]


def pulls(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """One drawn tensor for each use; positive, so that no sum over ranks cancels and shows its rounding."""
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {
        name: torch.empty(parameters[name].shape, dtype=torch.float64)
        .uniform_(0.25, 2, generator=generator)
        .to(parameters[name].dtype)
        for name in uses(model)
    }


def bucket_names(answers, sizes, blocks, dtypes, cap_bytes):
    """What make_buckets returns, by name; "?" for what is not a parameter of the model."""
    model = Net(sizes, blocks, dtypes)
    names = {id(p): name for name, p in model.named_parameters()}
    return [[names.get(id(p), "?") for p in bucket] for bucket in answers.make_buckets(model, cap_bytes)]


def gradients(answers, pulls, order, sizes, blocks, dtypes, cap_bytes, late):
    """One step for each of this rank's `pulls`: the gradients after `finish`, by name. `order`: what it uses, and when.

    In the first step rank `late` begins its backward pass when the others are in `finish`, and leaves them some time to
    come out again: they must not, since its gradients are still to come.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    store = dist.distributed_c10d._get_default_store()
    others = [r for r in range(world) if r != late]
    model = Net(sizes, blocks, dtypes)
    reducer = answers.Reducer(model, cap_bytes)
    steps = []
    for step, mine in enumerate(pulls):
        model.zero_grad(set_to_none=step % 2 == 0)
        loss = model(mine, order)
        special = late >= 0 and step == 0
        if special and rank == late and came(store, "into finish", others, 1.0):
            came(store, "out of finish", others, LAG_S)
        loss.backward()
        if special:
            store.set(f"into finish/{rank}", "yes")
        reducer.finish()
        if special:
            store.set(f"out of finish/{rank}", "yes")
        steps.append(
            {n: None if p.grad is None else p.grad.detach().clone() for n, p in model.named_parameters()}
        )
    return steps


def came(store, where, ranks, seconds):
    """Wait until all `ranks` have said that they are there, or until `seconds` are over. Whether they came."""
    try:
        store.wait([f"{where}/{r}" for r in ranks], timedelta(seconds=seconds))
        return True
    except RuntimeError:
        return False


class Stack(nn.Module):
    """Layers of one large and one small parameter, with a gate before layer `gate`'s gradients; one layer is frozen."""

    def __init__(self, layers: int, numel: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(layers):
            layer = nn.Module()
            layer.large, layer.small = nn.Parameter(torch.ones(numel)), nn.Parameter(torch.ones(64))
            self.layers.append(layer)
        self.layers[layers - 2].requires_grad_(False)

    def forward(self, pulls: dict[int, torch.Tensor], gate: int, happens) -> torch.Tensor:
        """Gradients of layer k are pulls[k], looked up when they are computed. `happens()` is called when those above
        `gate` exist."""
        loss = torch.zeros((), requires_grad=True)
        for number, layer in enumerate(self.layers):
            for p in (layer.large, layer.small):
                if p.requires_grad:
                    loss = loss + Pull.apply(p, pulls, number)
            if number == gate:
                loss = Gate.apply(loss, happens)
        return loss


class Pull(torch.autograd.Function):
    """A part of the loss. What the gradient is, is looked up in `pulls` when the backward pass has come here."""

    @staticmethod
    def forward(ctx, parameter, pulls, number):
        ctx.pulls, ctx.number, ctx.numel = pulls, number, parameter.numel()
        return parameter.new_zeros(())

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.pulls[ctx.number][: ctx.numel], None, None


class Gate(torch.autograd.Function):
    """Nothing on the way forward; on the way back it calls a function before the gradient goes on."""

    @staticmethod
    def forward(ctx, x, happens):
        ctx.happens = happens
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        ctx.happens()
        return grad, None


def stack(answers, steps, layers, numel, cap_bytes, gate, late):
    """Train on a Stack. In every step it is given this rank's gradients in two parts: those of the layers above `gate`, then, when
    the backward pass has come to the gate, the others. So what has left by then has left before the others existed.

    It yields a fingerprint of each mean of the step before, to be given the first part, and nothing to be given the second.
    In the last step rank `late` does not begin its backward pass until every other rank has come to the gate in its own;
    "came" says whether they did.
    """
    give_back_what_is_freed()
    rank, world = dist.get_rank(), dist.get_world_size()
    store = dist.distributed_c10d._get_default_store()
    model = Stack(layers, numel)
    reducer = answers.Reducer(model, cap_bytes)
    # In a thread of its own the backward pass can stand at the gate, while this one asks for what comes behind it. Nobody
    # waits for the thread when something fails: the process ends with it.
    apart = ThreadPoolExecutor(1)
    numbers, they_came = [], True
    for step in range(steps):
        pulls = dict(enumerate((yield numbers), gate + 1))
        reached, others = SimpleQueue(), SimpleQueue()

        def at_the_gate(pulls=pulls, reached=reached, others=others):
            reached.put(True)
            pulls.update(enumerate(others.get()))

        model.zero_grad()
        loss = model(pulls, gate, at_the_gate)
        last = step == steps - 1
        if last and rank == late:
            they_came = came(store, "passed", [r for r in range(world) if r != rank], PATIENCE_S)
        if last and rank == (late if late >= 0 else world - 1):
            time.sleep(LAG_S)  # who does not wait for its gradients has nothing to take
        backward = apart.submit(loss.backward)
        backward.add_done_callback(lambda _, reached=reached: reached.put(False))
        if not reached.get():
            backward.result()  # raises what a hook has raised
        if last and late >= 0:
            store.set(f"passed/{rank}", "yes")
        let_what_was_launched_arrive()
        others.put((yield []))
        backward.result()
        reducer.finish()
        grads = [p.grad for p in model.parameters() if p.requires_grad]
        numbers = [float("nan") if g is None else fingerprint(g) for g in grads]
        del pulls, loss, backward, grads  # or they are there twice in the next step
    return {"numbers": numbers, "came": they_came}


def let_what_was_launched_arrive():
    """A barrier of gloo waits for all that its group has begun, so that the kernel's count is complete."""
    for group in list(dist.distributed_c10d._world.pg_map):
        dist.barrier(group)


def give_back_what_is_freed():
    """Have malloc return every block above 64 KiB to the kernel when it is freed, so that memory in use is what counts.

    By itself glibc keeps freed blocks, in a heap for each of gloo's threads. Other C libraries: nothing happens.
    """
    try:
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 65536)
    except (OSError, AttributeError):
        pass
