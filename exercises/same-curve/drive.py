"""Run beside the learner's code on each rank: a small classifier with dropout, its data, and runs of it.

Each rank's global generator is seeded with another number first, as the processes of a real job are.
"""

import ctypes
import resource

import torch
import torch.distributed as dist
from torch import nn

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h

# The first optimizer of a process imports hundreds of modules of torch. Ranks are forked: do it once, before they are.
torch.optim.SGD([torch.zeros(1)], lr=0.1)


class Net(nn.Module):
    """sizes: (inputs, width, classes). Its one hidden layer is multiplied by the dropout masks."""

    def __init__(self, sizes):
        super().__init__()
        inputs, self.width, classes = sizes
        self.up, self.down = nn.Linear(inputs, self.width), nn.Linear(self.width, classes)

    def forward(self, x, masks):
        hidden = torch.tanh(self.up(x))
        return self.down(hidden * masks.to(hidden.dtype))


def vector(model):
    """All parameters as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def load(model, values):
    """The opposite of `vector`."""
    with torch.no_grad():
        for parameter, part in zip(model.parameters(), split(values, model), strict=True):
            parameter.copy_(part)


def make_optimizer(model, settings):
    """torch.optim.SGD or AdamW on all parameters."""
    settings = dict(settings)
    kind = {"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}[settings.pop("kind")]
    return kind(model.parameters(), **settings)


def starts(answers, state, seeds, sizes):
    """The model of each seed as a vector; `state` seeds this rank's global generator before."""
    torch.manual_seed(state)
    return [vector(answers.new_model(lambda: Net(sizes), seed)) for seed in seeds]


def orders(answers, plans, dataset_size, steps, worlds):
    """What my_samples says, per plan and number of ranks: see `order_of`. The global generator is in another state each time."""
    found = []
    for number, plan in enumerate(plans):
        torch.manual_seed(number)
        found.append(
            [order_of(answers, answers.Plan(**plan), dataset_size, steps, world) for world in worlds]
        )
    return found


def order_of(answers, plan, dataset_size, steps, world):
    """{"rows": all in one row, "sizes": [step][rank], "form": what is not as asked}."""
    rows, sizes = [], []
    for step in range(steps):
        parts = [answers.my_samples(step, dataset_size, plan, rank, world) for rank in range(world)]
        for part in parts:
            if not isinstance(part, torch.Tensor) or part.dtype != torch.int64 or part.dim() != 1:
                return {"rows": torch.zeros(0, dtype=torch.int64), "sizes": [], "form": describe(part)}
        rows += parts
        sizes.append([len(part) for part in parts])
    return {"rows": torch.cat(rows), "sizes": sizes, "form": ""}


def describe(value):
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} with shape {tuple(value.shape)}"
    return f"a value of type {type(value).__name__}"


def masks(answers, state, plan, calls):
    """dropout_masks for each call (samples, step, seed, width)."""
    torch.manual_seed(state)
    found = []
    for samples, step, seed, width in calls:
        one = answers.Plan(**{**plan, "seed": seed})
        found.append(answers.dropout_masks(torch.tensor(samples, dtype=torch.int64), step, width, one))
    return found


def rates(answers, plans, steps):
    """learning_rate of the first `steps` steps of each plan."""
    return [[answers.learning_rate(step, answers.Plan(**plan)) for step in range(steps)] for plan in plans]


def facts(answers, plan, dataset_size, steps, width):
    """What one process would read and draw: per step of `steps`, its samples and their masks."""
    plan = answers.Plan(**plan)
    rows = [answers.my_samples(step, dataset_size, plan, 0, 1) for step in steps]
    return [
        [mine, answers.dropout_masks(mine, step, width, plan)] for step, mine in zip(steps, rows, strict=True)
    ]


def parts(answers, plan, dataset_size, steps, world, width):
    """Per step and rank: its samples, their masks, and the masks of samples 0, 1, 2, … in their place."""
    plan, found = answers.Plan(**plan), []
    for step in steps:
        found.append([])
        for rank in range(world):
            mine = answers.my_samples(step, dataset_size, plan, rank, world)
            place = answers.dropout_masks(torch.arange(len(mine)), step, width, plan)
            found[-1].append([mine, answers.dropout_masks(mine, step, width, plan), place])
    return found


def train(answers, state, inputs, plan, sizes, targets, settings, steps, dtype, checkpoint, look):
    """Runs of steps `steps`, one per optimizer in `settings`. `checkpoint`: parameters and momentum to go on from, or None.

    Returns per run the losses, the first and the last parameters; and, if asked to `look`, what one process would read and draw.
    """
    runs = []
    for kind in settings:
        torch.manual_seed(state)
        model = answers.new_model(lambda: Net(sizes), plan["seed"]).to(dtype)
        optimizer = make_optimizer(model, kind)
        if checkpoint is not None:
            load(model, checkpoint[0])
            for parameter, part in zip(model.parameters(), split(checkpoint[1], model), strict=True):
                optimizer.state[parameter]["momentum_buffer"] = part.to(dtype)
        first = vector(model)
        fixed = answers.Plan(**plan)
        losses = [
            answers.train_step(model, optimizer, inputs.to(dtype), targets, step, fixed) for step in steps
        ]
        runs.append({"losses": losses, "first": first, "last": vector(model)})
    return {"runs": runs, "facts": facts(answers, plan, len(inputs), steps, sizes[1]) if look else None}


def split(values, model):
    """A vector cut into the shapes of the model's parameters."""
    pieces = values.split([p.numel() for p in model.parameters()])
    return [piece.reshape(p.shape).clone() for piece, p in zip(pieces, model.parameters(), strict=True)]


def large(answers, inputs, plan, sizes, steps):
    """Steps on a wider model, targets made here; the losses, and how far each parameter went."""
    given_back = give_back_what_is_freed()
    # In place of what was given back, so that the growth that is measured begins at zero and not below.
    ballast = torch.ones(given_back // 4 + 500_000)
    torch.manual_seed(1000 + dist.get_rank())
    targets = torch.arange(len(inputs)) % sizes[2]
    model = wide(sizes)
    optimizer = torch.optim.SGD(model.parameters(), lr=plan["base_lr"])
    fixed = answers.Plan(**plan)
    losses = [answers.train_step(model, optimizer, inputs, targets, step, fixed) for step in range(steps)]
    del ballast
    return {"losses": losses, "moved": moved(model, sizes)}


def wide(sizes):
    """A model of `sizes` with made-up weights, the same everywhere."""
    model = Net(sizes)
    load(model, torch.linspace(-0.3, 0.3, vector(model).numel()))
    return model


def moved(model, sizes):
    """The distance of each parameter from its start."""
    return [
        float((p.detach() - q.detach()).norm())
        for p, q in zip(model.parameters(), wide(sizes).parameters(), strict=True)
    ]


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
