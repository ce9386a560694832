"""Run beside the learner's code on each rank: two models with blocks, and what a rank can say of them.

`talk` is the book's language model in a small size. `Stack` is a model whose roundings are the same however rows are
grouped. `dense` is the model whose cost is measured: large for its rows, and all of its numbers count.
"""

from functools import partial

import torch

# fully_shard imports torch._dynamo when it is first called. Ranks are forked: do it once, before they are.
import torch._dynamo
import torch.distributed.fsdp  # noqa: F401
import torch.nn.functional as F
from torch import nn

from aboard import lm, ranks

# The first optimizer of a process imports hundreds of modules as well.
torch.optim.SGD([torch.zeros(1)], lr=0.1)


def talk(sizes: tuple[int, int, int], seed: int) -> nn.Module:
    """lm.Transformer of (vocabulary, width, layers), with random numbers that follow from `seed`.

    Most of its matrices are square, so that there are few shapes; its embedding and its output layer are one tied weight.
    """
    vocabulary, width, layers = sizes
    config = lm.Config(vocabulary, width, layers, heads=2, kv_heads=2, hidden=width)
    model = lm.Transformer(config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in model.parameters():
        # Larger than at a usual start, so that a few steps make a difference; norms differ from rank to rank too.
        spread = torch.empty(parameter.shape).uniform_(-1, 1, generator=generator)
        parameter.data = 1 + 0.2 * spread if parameter.dim() == 1 else 1.5 * spread / width**0.5
    return model


class Shift(nn.Module):
    def __init__(self, rows: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width).uniform_(-1, 1, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x + self.weight.mean(0))


class Stack(nn.Module):
    """sizes: (vocabulary, width, rows of a weight, layers). A block is two weights of [rows, width]."""

    def __init__(self, sizes: tuple[int, int, int, int], seed: int) -> None:
        super().__init__()
        vocabulary, width, rows, layers = sizes
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Embedding(vocabulary, width)
        self.embed.weight.data.uniform_(-1, 1, generator=generator)
        self.blocks = nn.ModuleList(
            nn.Sequential(Shift(rows, width, generator), Shift(rows, width, generator)) for _ in range(layers)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return x

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of the output of each row of `inputs` [n] int64 from its target [n] float."""
        return F.mse_loss(self(inputs).float(), targets[:, None].expand(-1, self.embed.embedding_dim))


class Block(nn.Module):
    """Two matrices, [hidden, width] and [width, hidden], and a tanh between them; its input is added."""

    def __init__(self, width: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.up, self.down = linear(width, hidden, generator), linear(hidden, width, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.3 * self.down(torch.tanh(self.up(x)))


class Dense(nn.Module):
    """sizes: (features, width, hidden, layers).

    No part of it can be computed without all of its numbers, nor its gradient without all rows: there is no short way.
    """

    def __init__(self, sizes: tuple[int, int, int, int], seed: int) -> None:
        super().__init__()
        features, width, hidden, layers = sizes
        generator = torch.Generator().manual_seed(seed)
        self.embed = linear(features, width, generator)
        self.blocks = nn.ModuleList(Block(width, hidden, generator) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.to(self.embed.weight.dtype))  # a policy need not cast inputs
        for block in self.blocks:
            x = block(x)
        return x

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of the output of each row of `inputs` [n, features] from its target [n]."""
        out = self(inputs).float()
        return F.mse_loss(out, targets[:, None].expand_as(out))


class Product(torch.autograd.Function):
    """`x` times the transposed `weight`, in float32, rounded to their dtype. Between the passes it keeps both, as nn.Linear does.

    A CPU without instructions for bfloat16 takes some fifteen times longer for a product in bfloat16 than for one in float32.
    """

    @staticmethod
    def forward(ctx, x, weight):
        if x.dtype != weight.dtype:
            raise RuntimeError(
                f"mat1 and mat2 must have the same dtype, but got {x.dtype} and {weight.dtype}"
            )
        ctx.save_for_backward(x, weight)
        return (x.float() @ weight.float().T).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        gradient = gradient.float()
        return (gradient @ weight.float()).to(x.dtype), (gradient.T @ x.float()).to(weight.dtype)


class Linear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Product.apply(x, self.weight)


def linear(rows: int, columns: int, generator: torch.Generator) -> nn.Linear:
    """Without bias; what comes out is about as large as what goes in."""
    made = Linear(rows, columns, bias=False)
    made.weight.data.uniform_(-1, 1, generator=generator).mul_(1.2 * (3 / rows) ** 0.5)
    return made


MODELS = {"talk": talk, "stack": Stack}


def optimizer_maker(settings):
    """A function that makes an optimizer of given parameters: torch.optim.SGD or AdamW."""
    settings = dict(settings)
    return partial({"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}[settings.pop("kind")], **settings)


def describe(model):
    """What each parameter is on this rank: how it is laid out, over how many ranks, and the numbers that are here."""
    found = {}
    for name, parameter in model.named_parameters():
        spec = getattr(parameter, "_spec", None)
        found[name] = {
            "placements": [f"{type(p).__name__} {getattr(p, 'dim', '')}".strip() for p in spec.placements]
            if spec
            else [],
            "mesh": list(spec.mesh.shape) if spec else [],
            "shape": list(parameter.shape),
            "local": getattr(parameter, "_local_tensor", parameter).detach().clone(),
        }
    return found


def start(answers, seed, sizes, settings):
    """The model after `prepare`, and which parameters its optimizer holds."""
    model = talk(sizes, seed)
    optimizer = answers.prepare(model, optimizer_maker(settings))
    mine = {id(p) for p in model.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        "parameters": describe(model),
        "tied": model.embed.weight is model.unembed.weight,
        "held": sum(id(p) in mine for p in held),
        "strangers": sum(id(p) not in mine for p in held),
    }


def train(answers, seed, inputs, targets, kind, sizes, settings, max_norm):
    """Prepare, then a step for each global batch inputs[step], targets[step]: what it told, and this rank's parameters."""
    model = MODELS[kind](sizes, seed)
    optimizer = answers.prepare(model, optimizer_maker(settings))
    told = [
        answers.train_step(model, optimizer, x, y, max_norm) for x, y in zip(inputs, targets, strict=True)
    ]
    return {"told": told, "parameters": describe(model)}


# A step changes the loss and the norm by much more than bfloat16 does.
COSTLY = {"kind": "AdamW", "lr": 0.003, "eps": 1e-3, "weight_decay": 0.1}


def costly(answers, rank, world, sizes, ballast):
    """Steps of a Dense, one for each batch that comes: this rank's rows, of a batch in which all others are zeros.

    Each time it yields what the last step told, nothing at first, it is given (inputs, targets) of this rank's rows for the
    next step, or an empty list when there is none. So nobody has the others' rows, nor those of a later step.
    ballast: bytes that are held from `prepare` on, so that the peak of a step is the higher one whatever `prepare` needed.
    Returns how many rows this rank's model was handed (to name a mistake only).
    """
    ranks.exact_memory()
    model = Dense(sizes, 7)
    seen = []
    model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    optimizer = answers.prepare(model, optimizer_maker(COSTLY))
    held = torch.ones(ballast // 4)
    mine = yield []
    while mine:
        inputs, targets = (spread(part, rank, world) for part in mine)
        told = answers.train_step(model, optimizer, inputs, targets, 1e9)
        model.zero_grad()  # when exactly old gradients go makes no difference here
        mine = yield list(told) if isinstance(told, tuple) else told
    del held
    return seen


def spread(part, rank, world):
    """The rows of `part` where those of `rank` are in the whole batch, and zeros elsewhere."""
    whole = part.new_zeros(world * len(part), *part.shape[1:])
    whole[rank::world] = part
    return whole


def checkpoint(answers, seed, sizes):
    """What `full_state` gives on this rank: each entry if it is a plain tensor, else the name of its class."""
    ranks.exact_memory()
    model = talk(sizes, seed)
    answers.prepare(model, partial(torch.optim.SGD, lr=0.1))
    ballast = torch.ones(
        room_below_the_peak() // 4
    )  # so that what full_state takes shows above what went before
    state = answers.full_state(model)
    del ballast
    if not isinstance(state, dict):
        return type(state).__name__
    return {
        str(name): value.detach() if plain(value) else type(value).__name__ for name, value in state.items()
    }


def plain(value):
    return isinstance(value, torch.Tensor) and not hasattr(value, "_spec")


def room_below_the_peak():
    """Bytes of anonymous memory between what this process has now and the most it ever had."""
    try:
        with open("/proc/self/status") as file:
            kib = {
                key: int(rest.split()[0])
                for key, _, rest in (line.partition(":") for line in file)
                if " kB" in rest
            }
        return 1024 * max(0, kib["VmHWM"] - kib["RssFile"] - kib["RssShmem"] - kib["RssAnon"])
    except (OSError, KeyError):
        return 0
