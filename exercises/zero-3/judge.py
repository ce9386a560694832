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
    large = learner.once(Large, draw)
    draw.case(large.words)
    run, one = large.run(), (large.world - 1) / large.world * large.size
    name = large.what_travels()
    for direction, counted in (("sent", run.sent()), ("received", run.received())):
        most, least = max(counted), min(counted)
        # The units are read once more at the end.
        expect.at_most(
            most,
            1.06 * one * 7 * large.layers + 100_000,
            f"bytes {direction} by rank {counted.index(most)}",
            name or "too-much-traffic",
        )
        # The last unit may be kept from the forward pass to the backward pass.
        expect.at_least(
            least,
            0.97 * one * (7 * large.layers - 2),
            f"bytes {direction} by rank {counted.index(least)}",
            name or "too-little-traffic",
        )
    expect.that(
        name is None, name or "", f"{len(large.gathers())} gathers in 2 steps of {large.layers} units"
    )
    # Bytes can be sent for nothing: by who has everything, weights and momentum, and needs to be sent no weights.
    large.at_most(1.35, "replicated")


@check("a rank holds its shards and a unit or two", about="memory")
def memory(learner, draw):
    large = learner.once(Large, draw)
    draw.case(large.words)
    held, name = large.run().outputs[0]["held"], large.what_travels()
    if name not in ("replicated", "no-second-gather"):
        name = "gathered-first"
        if held:
            name = "state-not-sharded" if any("v" in h or "mom" in h for h in held) else "never-freed"
    large.at_most(0.3, name)


class Large:
    """A run of drive.py's large model, whose cost both checks look at. Its numbers must be right before it counts."""

    world, layers = 8, 14
    # In units: a gathered one, its gradient, a padded copy, a collective's buffers, activations. 12 to 17 were seen, as free blocks lie in the heap.
    BESIDE = 15

    def __init__(self, learner, draw):
        self.learner, self.ran = learner, None
        # Uneven, and 2 · WIDTH + 1 is a prime: no unit divides by the ranks
        self.hidden = draw.uneven(930, 1000, self.world)
        self.size = 4 * (2 * WIDTH + 1) * self.hidden
        self.settings = {"lr": 0.5, "momentum": 0.9}
        self.batches = [
            [[draw.tensor(ROWS, WIDTH), draw.tensor(ROWS, WIDTH)] for _ in range(self.world)]
            for _ in range(2)
        ]
        self.words = f"{expect.ranks(self.world)}, {self.layers} units of {expect.amount(self.size)}, 2 steps"

    def run(self):
        if self.ran is None:
            try:
                self.ran = self.measure()
            except expect.Finding as finding:
                self.ran = finding
        if isinstance(self.ran, expect.Finding):
            raise self.ran
        return self.ran

    def measure(self):
        run = self.learner.on_ranks(self.world).converse(
            "train_large", later=self.batches, says=float, returns=LARGE, layers=self.layers, width=WIDTH,
            hidden=self.hidden, settings=self.settings,
        )  # fmt: skip
        told = all(list(map(len, output["prints"])) == [2] * self.layers for output in run.outputs)
        expect.that(told, "answered-in-its-place", "something else than two numbers for each unit came back")
        params = self.trained()
        for rank, output in enumerate(run.outputs):
            for i, (seen, p) in enumerate(zip(output["prints"], params, strict=True)):
                last = float(p[-1])
                right = same_fingerprint(seen[0], p) and abs(seen[1] - last) < 1e-3 * max(1.0, abs(last))
                expect.that(right, "result-first", f"the parameters of unit {i} are wrong on rank {rank}")
        return run

    def trained(self):
        """The parameters of each unit when one process has trained on all batches."""
        params = [drive.wide_start(WIDTH, self.hidden, i).requires_grad_() for i in range(self.layers)]
        optimizer = torch.optim.SGD(params, **self.settings)
        for batch in self.batches:
            optimizer.zero_grad()
            for x, target in batch:
                for p in params:
                    x = drive.wide(WIDTH, self.hidden, p, x)
                (drive.distance(target, x) / self.world).backward()
            optimizer.step()
        return [p.detach() for p in params]

    def at_most(self, whole, name):
        """No rank needs more than shards of parameters, gradients and momentum, what is beside them, and of all units a
        part, `whole`, that it need not have."""
        peaks = self.run().peak_bytes
        most, units = max(peaks), (3 / self.world + whole) * self.layers + self.BESIDE
        what = f"what rank {peaks.index(most)} needs; all units together have {expect.amount(self.layers * self.size)}"
        expect.at_most(most, units * self.size, what, name)

    def gathers(self):
        """Of whole units, in the two steps: each unit is read once more at the end."""
        made = [c for c in self.run().collectives[0] if c.op == "all_gather" and c.bytes >= 0.8 * self.size]
        return made[: max(0, len(made) - self.layers)]

    def what_travels(self):
        """The name of a mistake that shows in rank 0's collectives, or None."""
        gathers = self.gathers()
        if not gathers:
            return "replicated"
        if any(c.op == "all_reduce" and c.bytes >= 0.8 * self.size for c in self.run().collectives[0]):
            return "all-reduced"
        if len(gathers) < 2 * (2 * self.layers - 1):
            return "no-second-gather"
        if len(gathers) > 2 * 2 * self.layers:
            return "gathered-too-often"
        return "gathered-too-wide" if max(c.bytes for c in gathers) > 1.5 * self.size else None


class Case:
    """A training run to compare: start, batches, settings; and what one process, or ranks with a mistake, make of it."""

    def __init__(self, draw, world, dtype):
        self.world, self.dtype = world, dtype
        # Of three neighbours (a + 1) · b, one is even whatever one draws: not every unit can be uneven.
        self.widths = [2 * draw.integer(2, 4), draw.odd(3, 9), draw.integer(3, 9), draw.integer(3, 9)]
        while world % 2 and world > 1 and not all(n % world for n in drive.lengths(self.widths)[:2]):
            self.widths[:3] = [draw.integer(3, 9) for _ in range(3)]
        self.lengths = drive.lengths(self.widths)
        self.words = (
            f"{expect.ranks(world)}, units of {self.lengths} parameters, {str(dtype).removeprefix('torch.')}"
        )
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
        "train",
        case.xs,
        case.targets,
        start=case.start,
        widths=case.widths,
        settings=case.settings,
        returns=TRAINED,
    )
    want, norms = case.train()
    got = [output["params"] for output in run.outputs]
    expect.close(got, want.to(case.dtype), "the parameters", case.likely(), terms=64 * case.world, slack=2)
    expect.same_on_every_rank(got, "the parameters")
    for rank, output in enumerate(run.outputs):
        told = output["norms"]
        right = len(told) == len(norms) and all(
            abs(a - b) < 1e-4 * b for a, b in zip(told, norms, strict=True)
        )
        added = len(told) == len(norms) and all(
            abs(a - case.world * b) < 1e-3 * a for a, b in zip(told, norms, strict=True)
        )
        expect.that(
            right, "summed" if added else "wrong-norm", f"the norms told on rank {rank} are {told[:1]}, …"
        )
