"""Judge of "ZeRO-1 and 2: shard the optimizer"."""

import math

import torch

from aboard.ranks.fingerprint import same_fingerprint
from autograder import expect
from autograder.judge import check

WORLDS = (1, 2, 3, 8)  # 4 ranks update fewer parameters than they are, and more of them when they clip
STEPS = 4


@check("every parameter has one owner, and no shard is longer than needed")
def shards(learner, draw):
    cases = [
        (draw.odd(50, 5000), draw.choice([2, 4, 8])),
        (draw.integer(1, 3), 8),
        (840, draw.choice([3, 4, 8])),
        # With one element left over, whoever gives all that is left to one rank is right.
        (7 * draw.integer(8, 70) + draw.integer(2, 6), 7),
    ]
    for numel, world in cases:
        draw.case(f"shard_bounds({numel}, {world})")
        bounds = learner.call("shard_bounds", numel, world)
        expect.that(
            isinstance(bounds, list) and all(isinstance(b, list | tuple) and len(b) == 2 for b in bounds)
            and all(type(edge) is int for b in bounds for edge in b),
            "wrong-type", "shard_bounds should return a list of pairs of whole numbers",
        )  # fmt: skip
        expect.that(len(bounds) == world, "wrong-length", f"{len(bounds)} shards for {world} ranks")
        starts, stops = [b[0] for b in bounds], [b[1] for b in bounds]
        covered = starts == [0, *stops[:-1]] and stops[-1] == numel and all(a <= b for a, b in bounds)
        expect.that(covered, "shards-do-not-cover", f"yours: {bounds}")
        sizes = [b - a for a, b in bounds]
        expect.that(max(sizes) <= math.ceil(numel / world), "shards-too-long", f"yours have {sizes} elements")


@check("several steps equal torch.optim.AdamW on the averaged gradient")
def update(learner, draw):
    precise = draw.choice([2, 3])
    for world in draw.shuffled(WORLDS):
        dtype = torch.float64 if world == precise else torch.float32
        steps_agree(learner, Case(draw, world, draw.uneven(40, 400, world), dtype))
    steps_agree(learner, Case(draw, 4, draw.integer(1, 3), torch.float32))


@check("clipping uses the norm of the whole averaged gradient")
def clipping(learner, draw):
    for world, share in ((2, 0.4), (draw.choice([3, 5]), 0.2), (4, 5.0)):
        case = Case(draw, world, draw.uneven(40, 400, world), torch.float32)
        # The gradients of a rank and of a shard are never longer than 1.5 times this norm, nor is their sum than N times.
        case.settings["max_norm"] = share * case.first_norm()
        longer = "longer" if share < 1 else "shorter"
        draw.case(f"{case.words}, a gradient {longer} than max_norm = {case.settings['max_norm']:.3g}")
        steps_agree(learner, case)


@check("a rank keeps its share of the optimizer state", about="memory")
def memory(learner, draw):
    large = learner.once(Large, draw)
    draw.case(large.words)
    run, size = large.run(), large.size * large.layers
    # One layer after the other is updated, so what a step needs for a moment is a few layers' worth, more of them the more
    # ranks send theirs, and drive.py keeps 2 MB in hand. Who keeps all gradients instead, to do the first step once more
    # with the second, needs more.
    kept = [peak - size - 2_000_000 for peak in run.peak_bytes]
    most = max(kept)
    expect.at_most(
        most, 2 / large.world * size + (6 + 3 * large.world) * large.size, f"what rank {kept.index(most)} needs beside the parameters",
        who_keeps_what(run, kept),
    )  # fmt: skip


def who_keeps_what(run, kept):
    """The name of what takes the memory: from how it is spread over the ranks, and from what the optimizers hold."""
    whole = run.outputs
    if max(kept) > 1.5 * min(kept):
        return "one-rank-holds-all"
    slices = [seen for seen, stored in whole[0] if seen < 0.9 * stored]
    if slices and len(slices) == len(whole[0]):
        return "state-is-a-view"
    return "buffers-kept" if len(whole[0]) == 1 else "state-not-sharded"


@check("one step moves 2(N−1)/N of the parameters per rank", about="communication")
def traffic(learner, draw):
    large = learner.once(Large, draw)
    draw.case(large.words)
    run, world, size = large.run(), large.world, large.size
    whole = {c.op for rank in run.collectives for c in rank if c.bytes >= 0.8 * size}
    gathered = max((c.bytes for rank in run.collectives for c in rank if c.op == "all_gather"), default=0)
    expect.that(
        "all_reduce" not in whole, "all-reduced", f"an all_reduce of {expect.amount(size)}, one whole layer"
    )
    expect.that(
        not whole & {"broadcast", "reduce", "gather", "scatter"}, "one-rank-updates",
        f"{' and '.join(sorted(whole))} of {expect.amount(size)}, one whole layer",
    )  # fmt: skip
    name = "gradients-gathered" if gathered > 1.5 * size else "too-much-traffic"
    bound = 2 * (world - 1) / world * size * len(large.order)
    sent, received = run.sent(), run.received()
    for direction, counted in (("sent", sent), ("received", received)):
        most, least = max(counted), min(counted)
        # A reduce-scatter made of smaller messages may take a little more; a third collective takes half as much again.
        expect.at_most(most, 1.25 * bound + 100_000, f"bytes {direction} by rank {counted.index(most)}", name)
        expect.at_least(
            least, 0.75 * bound, f"bytes {direction} by rank {counted.index(least)}", "too-little-traffic"
        )


class Large:
    """A run of the model in layers of drive.py, whose cost both checks look at. Its numbers must be right before it counts."""

    layers, again, together = 24, 8, 2

    def __init__(self, learner, draw):
        self.learner, self.ran, self.wrong = learner, None, ""
        self.world = draw.choice([3, 4])
        self.numel = draw.uneven(80_000, 90_000, self.world)
        self.size = 4 * self.numel
        self.settings = {
            "lr": 0.02,
            "betas": (0.9, 0.95),
            "eps": 0.05,
            "weight_decay": draw.choice([0.1, 0.2]),
        }
        # Nobody knows which ones take a second step until all have taken the first.
        self.order = [*range(self.layers), *draw.shuffled(range(self.layers))[: self.again]]
        self.gradients = [[draw.tensor(self.numel) for _ in range(self.world)] for _ in self.order]
        amount = expect.amount(self.size * self.layers)
        self.words = (
            f"{expect.ranks(self.world)}, a step of {self.layers} layers of {self.numel:,} parameters ({amount}), "
            f"another one of {self.again} of them"
        )

    def run(self):
        if self.ran is None:
            self.ran = self.learner.on_ranks(self.world).converse(
                "train_layers", later=[*self.later(), [[]] * self.world], says=[[float]], returns=[[int]],
                layers=self.layers, numel=self.numel, settings=self.settings,
            )  # fmt: skip
            self.wrong = self.what_is_wrong()
        expect.that(not self.wrong, "result-first", self.wrong)
        return self.ran

    def later(self):
        """[when][rank]: numbers of `together` layers, each with the rank's gradient for it."""
        steps = list(zip(self.order, self.gradients, strict=True))
        starts = range(0, len(steps), self.together)
        return [
            [[[layer, ranks[r]] for layer, ranks in steps[k : k + self.together]] for r in range(self.world)]
            for k in starts
        ]

    def what_is_wrong(self):
        """In a sentence, with the first layer that is not what torch.optim.AdamW makes of it; empty when all are."""
        said = [[numbers for some in rank for numbers in some] for rank in self.ran.said]
        count = len(self.order)
        formed = all(len(rank) == count and all(len(numbers) == 3 for numbers in rank) for rank in said)
        expect.that(
            formed, "answered-in-its-place", "something else than three numbers for each layer came back"
        )
        for layer in range(self.layers):
            params = torch.linspace(0.5, 1.5 + layer, self.numel)
            optimizer = torch.optim.AdamW([params], **self.settings)
            for step in (k for k, one in enumerate(self.order) if one == layer):
                params.grad = sum(self.gradients[step]) / self.world
                optimizer.step()
                first_with = {tuple(said[rank][step]): rank for rank in reversed(range(self.world))}
                for numbers, rank in first_with.items():
                    if not is_of(params, *numbers):
                        return f"the parameters of layer {layer} are wrong on rank {rank}"
        return ""


def is_of(params, whole, first, last):
    """Whether the fingerprint, the first and the last number are those of `params`."""
    ends = (first, float(params[0])), (last, float(params[-1]))
    return same_fingerprint(whole, params) and all(abs(a - b) < 1e-4 * abs(b) for a, b in ends)


class Case:
    """A training run to compare: start, per rank a scale and a target, settings; and what mistakes would make of it."""

    def __init__(self, draw, world, numel, dtype):
        self.world, self.numel, self.dtype = world, numel, dtype
        self.words = f"{expect.ranks(world)}, {expect.amount(numel, 'parameters')}, {str(dtype).removeprefix('torch.')}"
        draw.case(f"{self.words}, {STEPS} steps")
        self.start = draw.tensor(numel, dtype=dtype)
        # Later parameters have larger gradients, so that the shards' norms differ.
        rising = 0.3 + 2 * torch.linspace(0, 1, numel, dtype=dtype) ** 2
        self.scales = [rising * draw.tensor(numel, dtype=dtype, low=0.5, high=1.5) for _ in range(world)]
        self.targets = [draw.tensor(numel, dtype=dtype) for _ in range(world)]
        # Adam divides by the size of the gradient; a large eps lets a wrong factor show.
        self.settings = {
            "lr": draw.choice([0.02, 0.03, 0.05]), "betas": (draw.choice([0.8, 0.9]), draw.choice([0.9, 0.95])),
            "eps": draw.choice([0.05, 0.1]), "weight_decay": draw.choice([0.1, 0.2, 0.3]),
        }  # fmt: skip

    def gradients(self, params):
        """[rank, element]: every rank's own gradient at its own `params`, in float64."""
        return torch.stack([
            s.double() * (p - t.double()) for s, t, p in zip(self.scales, self.targets, params, strict=True)
        ])  # fmt: skip

    def first_norm(self):
        return float(self.gradients([self.start.double()] * self.world).mean(0).norm())

    def right(self):
        """What torch.optim.AdamW makes of the averaged gradients in one process, in float64."""
        settings = dict(self.settings)
        max_norm = settings.pop("max_norm", None)
        params = self.start.double().clone()
        optimizer = torch.optim.AdamW([params], **settings)
        for _ in range(STEPS):
            params.grad = self.gradients([params] * self.world).mean(0)
            if max_norm is not None:
                torch.nn.utils.clip_grad_norm_([params], max_norm)
            optimizer.step()
        return params.to(self.dtype)

    def wrong(self, *mistakes, layout="padded"):
        """What the ranks would hold after the same steps with `mistakes` made: a list with one tensor per rank."""
        made, (beta1, beta2) = set(mistakes), self.settings["betas"]
        lr, eps, decay = (self.settings[key] for key in ("lr", "eps", "weight_decay"))
        owner = owners(self.numel, self.world, layout)
        mask = (owner < self.world).double()
        params = self.start.double().repeat(self.world, 1)
        m, v = torch.zeros(self.numel).double(), torch.zeros(self.numel).double()
        for t in range(1, STEPS + 1):
            gradients = self.gradients(list(params))
            if "clip each rank's" in made:
                norms = gradients.norm(dim=1, keepdim=True)
                gradients = gradients * (self.settings["max_norm"] / (norms + 1e-6)).clamp(max=1)
            g = gradients.mean(0)
            if "own gradient" in made:
                g = gradients.gather(0, owner.clamp(max=self.world - 1).unsqueeze(0)).squeeze(0)
            if "sum" in made:
                g = g * self.world
            g = self.clipped(g * mask, owner, made)
            mine = params.gather(0, owner.clamp(max=self.world - 1).unsqueeze(0)).squeeze(0)
            if "coupled" in made:
                g = g + decay * mine
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            count = t + 1 if "count from 2" in made else 1 if "count stays" in made else t
            c1, c2 = (1 - beta1**count), (1 - beta2**count)
            if "no correction" in made:
                c1 = c2 = 1.0
            c1, c2 = 1.0 if "second only" in made else c1, 1.0 if "first only" in made else c2
            root = (v / c2).sqrt() + eps
            if "eps inside" in made:
                root = (v / c2 + eps).sqrt()
            if "eps early" in made:
                root = (v.sqrt() + eps) / c2**0.5
            shrink = 1.0 if made & {"coupled", "no decay"} else 1 - lr * decay
            change = -lr * (m / c1) / root
            new = (mine + change) * shrink if "decay last" in made else mine * shrink + change
            new = torch.where(mask.bool(), new, mine)
            if "no gather" in made:
                held = owner.unsqueeze(0) == torch.arange(self.world).unsqueeze(1)
                params = torch.where(held, new, params)
            else:
                params = new.repeat(self.world, 1)
        return [row.to(self.dtype) for row in params]

    def clipped(self, g, owner, made):
        max_norm = self.settings.get("max_norm")
        if max_norm is None or made & {"no clip", "clip each rank's"}:
            return g
        squares = torch.zeros(self.world + 1).double().scatter_add(0, owner, g * g)
        norm = g.norm()
        if "shard norm" in made:
            norm = squares.sqrt()[owner]
        if "norms added" in made:
            norm = squares.sqrt().sum()
        if "norm of the sum" in made:
            norm = norm * self.world
        factor = max_norm / (norm + 1e-6)
        return g * (factor if "unlimited" in made else torch.clamp(factor, max=1.0))

    def likely(self):
        """Diagnosis → what it would give; on one rank, only those that show there."""
        found = {
            "tail-lost": self.wrong(layout="floor"),
            "bias-correction": tuple(
                self.wrong(m)
                for m in ("no correction", "count from 2", "count stays", "second only", "first only")
            ),
            "coupled-decay": self.wrong("coupled"),
            "no-decay": self.wrong("no decay"),
            "decay-order": self.wrong("decay last"),
            "eps-misplaced": (self.wrong("eps inside"), self.wrong("eps early")),
            "summed": self.wrong("sum"),
            "own-gradient": tuple(
                self.wrong("own gradient", layout=layout) for layout in ("padded", "balanced")
            ),
            "not-gathered": tuple(
                self.wrong("no gather", layout=layout) for layout in ("padded", "balanced")
            ),
            "not-in-place": self.start,
        }
        if "max_norm" in self.settings:
            found |= {
                "local-norm": tuple(
                    self.wrong("shard norm", layout=layout) for layout in ("padded", "balanced")
                ),
                "norms-added": tuple(
                    self.wrong("norms added", layout=layout) for layout in ("padded", "balanced")
                ),
                "clipped-too-early": (self.wrong("clip each rank's"), self.wrong("norm of the sum")),
                "clipped-up": self.wrong("unlimited"),
                "not-clipped": self.wrong("no clip"),
            }
        return found


def owners(numel, world, layout):
    """Which rank owns each element; `world` stands for nobody."""
    index = torch.arange(numel)
    if layout == "balanced":
        edges = torch.tensor([numel * (r + 1) // world for r in range(world)])
        return torch.searchsorted(edges, index, right=True)
    size = numel // world if layout == "floor" else math.ceil(numel / world)
    return (index // max(1, size)).clamp(max=world) if size else torch.full((numel,), world)


def steps_agree(learner, case):
    run = learner.on_ranks(case.world).drive(
        "train", case.scales, case.targets, start=case.start, steps=STEPS, settings=case.settings
    )
    want = case.right()
    # Each element is the end of a chain of roundings: the ranks' sum, the norm, the moments, the root, STEPS times.
    try:
        expect.close(run.outputs, want, "the parameters", terms=32 * case.world, slack=1.5)
    except expect.Finding as finding:
        if finding.diagnosis not in ("wrong-values", "not-a-number"):
            raise
        expect.close(run.outputs, want, "the parameters", case.likely(), terms=32 * case.world, slack=1.5)
    expect.same_on_every_rank(run.outputs, "the parameter vector")
