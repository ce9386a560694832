"""Run beside the learner's code on each rank: a small language model with everything that real ones have.

Its input embedding and its output layer are one tied weight; one layer is frozen; a normalisation layer keeps buffers that
the forward pass changes: a float one, an integer one, and one that is in no checkpoint. All of them take part in the result.
"""

import ctypes

import torch
from torch import nn

from aboard.ranks.fingerprint import fingerprint

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h

# The first optimizer of a process imports hundreds of modules of torch. Ranks are forked: do it once, before they are.
torch.optim.SGD([torch.zeros(1)], lr=0.1)


class RunningCenter(nn.Module):
    """Subtracts a running mean of what it has seen, as batch normalisation does in its own way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("strength", torch.ones(width), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x - self.center) * self.strength / (1 + 0.05 * self.seen)
        if self.training:
            self.center.mul_(0.8).add_(x.detach().mean(0), alpha=0.2)
            self.seen += 1
        return y


class Net(nn.Module):
    """Predicts a token from the one before. sizes: (vocabulary, width, hidden). All values follow from `seed`."""

    def __init__(self, sizes: tuple[int, int, int], seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        vocabulary, width, hidden = sizes
        self.embed = nn.Embedding(vocabulary, width)
        self.norm = RunningCenter(width)
        self.lift = nn.Linear(width, hidden).requires_grad_(False)  # frozen
        self.mix = nn.Linear(hidden, hidden)
        self.down = nn.Linear(hidden, width)
        self.unembed = nn.Linear(width, vocabulary, bias=False)
        self.unembed.weight = self.embed.weight  # tied: one parameter with two names
        self.to(dtype)
        generator = torch.Generator().manual_seed(seed)
        for tensor in [*self.parameters(), *self.buffers()]:
            if tensor.is_floating_point():
                size = (
                    1.0 if tensor.dim() < 2 or tensor is self.embed.weight else 1.5 / tensor.shape[1] ** 0.5
                )
                values = torch.empty(tensor.shape, dtype=torch.float64).uniform_(
                    -size, size, generator=generator
                )
            else:
                values = torch.randint(0, 40, tensor.shape, generator=generator)
            tensor.data.copy_(values)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.lift(self.norm(self.embed(tokens))))
        return self.unembed(torch.tanh(self.down(torch.tanh(self.mix(x)))))


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, tied ones once."""
    return {name: t.detach() for name, t in [*model.named_parameters(), *model.named_buffers()]}


def pulls(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Made-up gradients for the trainable parameters, by name."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.empty(p.shape, dtype=p.dtype).uniform_(-1, 1, generator=generator)
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def pull(model, gradients):
    """A backward pass that leaves exactly `gradients`; parameters not in it take no part, and get none."""
    parameters = dict(model.named_parameters())
    model.zero_grad()
    sum((parameters[name] * g).sum() for name, g in gradients.items()).backward()


def start(answers, seed, sizes):
    """The tensors after broadcast_model, and whether the parameters are still the same objects."""
    model = Net(sizes, seed)
    before = list(model.parameters())
    answers.broadcast_model(model)
    after = list(model.parameters())
    kept = len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))
    return {"tensors": tensors(model), "kept": kept}


def averaged(answers, seed, missing, sizes, dtype):
    """The gradients after average_gradients; those named in `missing` take no part on this rank."""
    model = Net(sizes, seed, dtype)
    answers.broadcast_model(model)
    pull(model, {name: g for name, g in pulls(model, seed).items() if name not in missing})
    answers.average_gradients(model)
    return {name: p.grad for name, p in model.named_parameters()}


def train(answers, seed, inputs, targets, sizes, settings):
    """Train on this rank's batches, inputs[step] and targets[step]; all tensors after the last step."""
    model = Net(sizes, seed)
    answers.broadcast_model(model)
    optimizer = make_optimizer(model, settings)
    for x, y in zip(inputs, targets, strict=True):
        answers.train_step(model, optimizer, x, y)
    return tensors(model)


def make_optimizer(model, settings):
    """torch.optim.SGD or AdamW on the trainable parameters."""
    settings = dict(settings)
    kind = {"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}[settings.pop("kind")]
    return kind([p for p in model.parameters() if p.requires_grad], **settings)


def many_averages(answers, mine, sizes, times):
    """`times` backward passes that leave the gradients `mine`, with one average_gradients each, on a larger model.

    Returns a fingerprint of each resulting gradient.
    """
    give_back_what_is_freed()
    model = Net(sizes, 1)
    answers.broadcast_model(model)
    for _ in range(times):
        pull(model, mine)
        answers.average_gradients(model)
    return [fingerprint(p.grad) for p in model.parameters() if p.requires_grad]


def give_back_what_is_freed():
    """Have malloc return every block above 64 KiB to the kernel when it is freed, so that memory in use is what counts.

    By itself glibc keeps freed blocks, in a heap for each of gloo's threads. Other C libraries: nothing happens.
    """
    try:
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 65536)
    except (OSError, AttributeError):
        pass
