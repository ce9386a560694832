"""Judge of "ZeRO-3 by hand"."""

import math
from pathlib import Path

import torch

from aboard.ranks.fingerprint import same_fingerprint
from autograder import expect
from autograder.judge import check, load_module

drive = load_module(Path(__file__).with_name("drive.py"), "drive_of_zero_3")

WORLDS = (1, 2, 3, 4, 8)
STEPS = 3
# Of the units whose cost is measured. To send what a gradient is made of, for each row, would take more than to send the gradient.
WIDTH, ROWS = 65, 38
# What the functions of drive.py return: has_form says more.
TRAINED = {"params": torch.Tensor, "norms": [float]}
LARGE = {"prints": [[float]], "held": [str]}


@check("several steps equal one process that trains on all batches")
def training(learner, draw):
    precise = draw.choice([3, 4])
    for world in draw.shuffled(WORLDS):
        agrees(learner, Case(draw, world, torch.float64 if world == precise else torch.float32))


@check("clipping uses the norm of the whole averaged gradient")
def clipping(learner, draw):
    for world, share in ((2, 0.3), (3, 0.2), (4, 5.0)):
        case = Case(draw, world, torch.float32)
        case.settings["max_norm"] = share * case.train()[1][0]
        draw.case(f"{case.words}, a gradient {'longer' if share < 1 else 'shorter'} than max_norm")
        agrees(learner, case)


@check("two gathers and one reduce-scatter per unit and step", about="communication")
def traffic(learner, draw):
    world, layers = draw.choice([3, 4]), 4
    hidden, numel = large_sizes(draw, world)
    size = 4 * numel
    draw.case(f"{expect.ranks(world)}, {layers} units of {numel:,} parameters ({expect.amount(size)}), 2 steps")
    run = large_train(learner, draw, world, hidden, layers)
    name = what_travels(run, size, layers)
    # The units are read once more at the end.
    one = (world - 1) / world * size
    for direction, counted in (("sent", run.sent()), ("received", run.received())):
        most, least = max(counted), min(counted)
        expect.at_most(
            most, 1.06 * one * 7 * layers + 100_000, f"bytes {direction} by rank {counted.index(most)}", name or "too-much-traffic"
        )
        # The last unit may be kept from the forward pass to the backward pass.
        expect.at_least(
            least, 0.97 * one * (7 * layers - 2), f"bytes {direction} by rank {counted.index(least)}", name or "too-little-traffic"
        )
    gathers = len(gathers_of(run, size)) - layers
    expect.that(name is None, name or "", f"{gathers} gathers in 2 steps of {layers} units")


def gathers_of(run, size):
    return [c for c in run.collectives[0] if c.op == "all_gather" and c.bytes >= 0.8 * size]


def what_travels(run, size, layers):
    """The name of a mistake that shows in rank 0's collectives, or None. Each unit is read once at the end."""
    big = [c for c in run.collectives[0] if c.bytes >= 0.8 * size]
    gathers = gathers_of(run, size)
    count = len(gathers) - layers
    if count <= 0:
        return "replicated"
    if any(c.op == "all_reduce" for c in big):
        return "all-reduced"
    if count < 2 * (2 * layers - 1):
        return "no-second-gather"
    if count > 2 * 2 * layers:
        return "gathered-too-often"
    return "gathered-too-wide" if max(c.bytes for c in gathers) > 1.5 * size else None


@check("a rank holds its shards and a unit or two", about="memory")
def memory(learner, draw):
    world, layers = 4, 20
    hidden, numel = large_sizes(draw, world)
    size = 4 * numel
    draw.case(f"{expect.ranks(world)}, {layers} units of {numel:,} parameters ({expect.amount(size)})")
    run = large_train(learner, draw, world, hidden, layers)
    held = run.outputs[0]["held"]
    name = what_travels(run, size, layers)
    if name not in ("replicated", "no-second-gather"):
        name = "gathered-first"
        if held:
            name = "state-not-sharded" if any("v" in h or "mom" in h for h in held) else "never-freed"
    # Shards of parameters, gradients and momentum; a gathered unit, its gradient, a padded copy, a collective's buffers, activations.
    peaks = run.peak_bytes
    most = max(peaks)
    expect.at_most(
        most, (3 / world * layers + 21) * size, f"what rank {peaks.index(most)} needs; all units together have {expect.amount(layers * size)}", name
    )


def large_sizes(draw, world):
    """(hidden, parameters) of a wide unit; the parameters, 120,000 or so, do not divide by `world`."""
    hidden = draw.uneven(930, 1000, world)  # 2 · WIDTH + 1 is a prime
    return hidden, (2 * WIDTH + 1) * hidden


def large_train(learner, draw, world, hidden, layers):
    """Run drive.py's large model; its numbers must be right before its cost counts."""
    settings = {"lr": 0.5, "momentum": 0.9}
    batches = [[[draw.tensor(ROWS, WIDTH), draw.tensor(ROWS, WIDTH)] for _ in range(world)] for _ in range(2)]
    run = learner.on_ranks(world).converse(
        "train_large", later=batches, says=float, returns=LARGE, layers=layers, width=WIDTH, hidden=hidden, settings=settings
    )
    told = all(list(map(len, output["prints"])) == [2] * layers for output in run.outputs)
    expect.that(told, "answered-in-its-place", "something else than two numbers for each unit came back")
    params = [drive.wide_start(WIDTH, hidden, i).requires_grad_() for i in range(layers)]
    optimizer = torch.optim.SGD(params, **settings)
    for batch in batches:
        optimizer.zero_grad()
        for x, target in batch:
            for p in params:
                x = drive.wide(WIDTH, hidden, p, x)
            (drive.distance(target, x) / world).backward()
        optimizer.step()
    for rank, output in enumerate(run.outputs):
        for i, (seen, p) in enumerate(zip(output["prints"], params, strict=True)):
            p = p.detach()
            last = float(p[-1])
            right = same_fingerprint(seen[0], p) and abs(seen[1] - last) < 1e-3 * max(1.0, abs(last))
            expect.that(right, "result-first", f"the parameters of unit {i} are wrong on rank {rank}")
    return run


class Case:
    """A training run to compare: start, batches, settings; and what one process, or ranks with a mistake, make of it."""

    def __init__(self, draw, world, dtype):
        self.world, self.dtype = world, dtype
        # Of three neighbours (a + 1) · b, one is even whatever one draws: not every unit can be uneven.
        self.widths = [2 * draw.integer(2, 4), draw.odd(3, 9), draw.integer(3, 9), draw.integer(3, 9)]
        while world % 2 and world > 1 and not all(n % world for n in drive.lengths(self.widths)[:2]):
            self.widths[:3] = [draw.integer(3, 9) for _ in range(3)]
        self.lengths = drive.lengths(self.widths)
        self.words = f"{expect.ranks(world)}, units of {self.lengths} parameters, {str(dtype).removeprefix('torch.')}"
        draw.case(f"{self.words}, {STEPS} steps")
        self.start = draw.tensor(sum(self.lengths), dtype=dtype)
        self.xs = [draw.tensor(STEPS, 4, self.widths[0], dtype=dtype) for _ in range(world)]
        self.targets = [draw.tensor(STEPS, 4, self.widths[-1], dtype=dtype) for _ in range(world)]
        self.settings = {"lr": draw.choice([0.04, 0.06]), "momentum": draw.choice([0.8, 0.9])}

    def gradients(self, params, step):
        """[rank, element]: each rank's own gradient, in float64."""
        found = []
        units = drive.dense_units(self.widths)
        for xs, targets in zip(self.xs, self.targets, strict=True):
            p = params.clone().requires_grad_()
            y = xs[step].double()
            for unit, part in zip(units, p.split(self.lengths), strict=True):
                y = unit(part, y)
            found.append(torch.autograd.grad(drive.distance(targets[step].double(), y), p)[0])
        return torch.stack(found)

    def train(self, made=""):
        """Parameters and norms of one process in float64, or of ranks that make a mistake."""
        params = start = self.start.double()
        v = torch.zeros_like(params)
        owner = torch.cat([torch.arange(n) // math.ceil(n / self.world) for n in self.lengths])
        unit = torch.cat([torch.full((n,), i) for i, n in enumerate(self.lengths)])
        norms = []
        for step in range(STEPS):
            all_ranks = self.gradients(start if made == "stale" else params, step)
            g = all_ranks.mean(0)
            if made == "sum":
                g = g * self.world
            if made == "half":
                g = g * self.world / 2
            if made == "own":
                g = all_ranks.gather(0, owner[None])[0] / self.world
            if made == "own undivided":
                g = all_ranks.gather(0, owner[None])[0]
            if made == "tail":
                g = g * torch.cat([torch.arange(n) < n // self.world * self.world for n in self.lengths])
            norm = g.norm()
            norms.append(float(norm))
            max_norm = self.settings.get("max_norm", math.inf)
            shards = torch.zeros(self.world).double().scatter_add(0, owner, g * g).sqrt()
            units = torch.zeros(len(self.lengths)).double().scatter_add(0, unit, g * g).sqrt()
            norm = {"local": shards[owner], "unit": units[unit], "added": shards.sum()}.get(made, norm)
            factor = max_norm / (norm + 1e-6)
            if max_norm == math.inf or made == "unclipped":
                factor = torch.ones(())
            factor = factor if made == "up" else factor.clamp(max=1)
            g = g * (torch.ones(()) if made == "late clip" else factor)
            damped = 1 - self.settings["momentum"] if made == "damped" else 1
            v = g if made == "no momentum" else self.settings["momentum"] * v + damped * g
            params = params - self.settings["lr"] * v * (factor if made == "late clip" else 1)
        return params, norms

    def likely(self):
        made = {"stale-weights": "stale", "no-momentum": "no momentum", "damped": "damped"}
        if self.world != 2:
            made["divided-by-two"] = "half"
        if self.world > 1:
            made |= {"summed": "sum", "tail-lost": "tail"}
        if "max_norm" in self.settings:
            made |= {"unit-norm": "unit", "not-clipped": "unclipped", "clipped-up": "up"}
            made |= {"local-norm": "local", "norms-added": "added", "clipped-too-late": "late clip"}
        found = {name: self.train(m)[0].to(self.dtype) for name, m in made.items()}
        if self.world > 1:
            found["own-gradient"] = tuple(self.train(m)[0].to(self.dtype) for m in ("own", "own undivided"))
        return found


def agrees(learner, case):
    run = learner.on_ranks(case.world).drive(
        "train", case.xs, case.targets, start=case.start, widths=case.widths, settings=case.settings, returns=TRAINED
    )
    want, norms = case.train()
    got = [output["params"] for output in run.outputs]
    expect.close(got, want.to(case.dtype), "the parameters", case.likely(), terms=64 * case.world, slack=2)
    expect.same_on_every_rank(got, "the parameters")
    for rank, output in enumerate(run.outputs):
        told = output["norms"]
        right = len(told) == len(norms) and all(abs(a - b) < 1e-4 * b for a, b in zip(told, norms, strict=True))
        added = len(told) == len(norms) and all(abs(a - case.world * b) < 1e-3 * a for a, b in zip(told, norms, strict=True))
        expect.that(right, "summed" if added else "wrong-norm", f"the norms told on rank {rank} are {told[:1]}, …")
