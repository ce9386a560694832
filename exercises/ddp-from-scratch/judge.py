"""Judge of "Data parallelism from scratch"."""

from pathlib import Path

import torch
import torch.nn.functional as F

from aboard.ranks.fingerprint import same_fingerprint
from autograder import expect
from autograder.judge import check, load_module

drive = load_module(Path(__file__).with_name("drive.py"), "drive_of_ddp_from_scratch")

# Together 1, 2, 3, 4 and 8 ranks: a start or an average that is wrong on 1 or 8 ranks only, the training shows.
STARTED, AVERAGED = (2, 3), (2, 3, 4)
STEPS = {1: 3, 2: 3, 8: 2}  # of training, for each world size
BATCH = 6  # samples per rank
BUFFERS = {"norm.center", "norm.seen", "norm.strength"}
FROZEN = {"lift.weight", "lift.bias"}
TIED = "embed.weight"
START = {"tensors": {str: torch.Tensor}, "kept": bool}  # what drive.py's `start` returns


def draw_sizes(draw, world):
    """Vocabulary, width, hidden: no parameter can be shared evenly."""
    return (draw.uneven(11, 31, world), draw.uneven(5, 12, world), draw.uneven(5, 14, world))


def seeds_for(draw, world):
    return [draw.seed() for _ in range(world)]


@check("every rank starts with rank 0's parameters and buffers")
def start(learner, draw):
    for world in draw.shuffled(STARTED):
        draw.case(f"{expect.ranks(world)}, each with other random numbers")
        sizes, seeds = draw_sizes(draw, world), seeds_for(draw, world)
        run = learner.on_ranks(world).drive("start", seeds, sizes=sizes, returns=START)
        born = [drive.tensors(drive.Net(sizes, seed)) for seed in seeds]
        kept = all(out["kept"] for out in run.outputs)
        expect.that(kept, "parameters-replaced", "`model.parameters()` has other objects than before")
        for rank, out in enumerate(run.outputs):
            got = out["tensors"]
            expect.that(
                got.keys() == born[0].keys(),
                "parameters-replaced",
                f"rank {rank} has other names than before",
            )
            wrong = [
                n for n in got if got[n].dtype != born[0][n].dtype or not torch.equal(got[n], born[0][n])
            ]
            if wrong:
                name = why_not_rank_0(wrong, got, born, rank)
                raise expect.Finding(name, f"on rank {rank} not those of rank 0: {', '.join(wrong)}")


def why_not_rank_0(wrong, got, born, rank):
    """The name of a wrong start: from which tensors are not rank 0's, and whose they are."""
    if all(torch.equal(got[n], born[rank][n]) for n in wrong):
        own = set(wrong)
        # All its own is not that of a wrong source: rank 0 is looked at first, and would have been found.
        if own <= {"norm.strength"}:
            return "hidden-buffer"
        if own <= {"norm.seen"}:
            return "integer-buffer"
        if own <= BUFFERS:
            return "buffers-not-sent"
        if own <= FROZEN:
            return "frozen-not-sent"
        return "trainable-only" if own <= FROZEN | BUFFERS else "not-broadcast"
    for other in born:
        if all(torch.equal(got[n], other[n]) for n in wrong):
            return "wrong-source"
    floats = [n for n in wrong if got[n].is_floating_point()]
    means = {n: torch.stack([b[n].double() for b in born]).mean(0) for n in floats}
    if floats and all((got[n].double() - means[n]).abs().max() < 1e-5 for n in floats):
        return "averaged-start"
    return "wrong-values"


@check("gradients become the mean over the ranks")
def gradients(learner, draw):
    names = ["mix.weight", "mix.bias", "down.weight", "down.bias", TIED]
    for world in draw.shuffled(AVERAGED):
        several = draw.shuffled(names)
        nothing = [[] for _ in range(world)]
        missing = [[] for _ in range(world)]
        if world > 2:
            missing[draw.integer(0, world - 1)] = several[:1]
        if world == 4:
            missing = [mine + several[1:2] for mine in missing]  # used by no rank
        try:
            gradients_average(learner, draw, world, missing)
        except expect.Finding as finding:
            if world < 3 or finding.diagnosis in ("not-done", "missing", "wrong-dtype", "wrong-shape"):
                raise
            # When all is well without a missing gradient, that is what is behind it, however it shows.
            case = draw.current_case
            gradients_average(learner, draw, world, nothing)
            draw.case(case)
            raise expect.Finding("unused-parameter", finding.message) from None


def gradients_average(learner, draw, world, missing):
    dtype = draw.choice([torch.float32, torch.float64])
    sizes, seeds = draw_sizes(draw, world), seeds_for(draw, world)
    left_out = "; ".join(f"rank {r} does not use {' and '.join(m)}" for r, m in enumerate(missing) if m)
    draw.case(
        f"{expect.ranks(world)}, {str(dtype).removeprefix('torch.')}" + (f"; {left_out}" if left_out else "")
    )
    run = learner.on_ranks(world).drive(
        "averaged", seeds, missing, sizes=sizes, dtype=dtype, returns={str: None}
    )
    model = drive.Net(sizes, 0, dtype)
    own = [drive.pulls(model, seed) for seed in seeds]
    for name in own[0]:
        mine = [torch.zeros_like(g[name]) if name in missing[r] else g[name] for r, g in enumerate(own)]
        mean = (sum(g.double() for g in mine) / world).to(dtype)
        got = [out.get(name) for out in run.outputs]
        if all(name in m for m in missing):
            got = [torch.zeros_like(mean) if g is None else g for g in got]
        none = [rank for rank, g in enumerate(got) if g is None]
        expect.that(not none, "unused-parameter", f"the gradient of {name} is None on ranks {none}")
        likely = {"not-divided": float(world), "divided-by-two": world / 2, "own-gradient": mine}
        if name == TIED:
            likely["tied-twice"] = 1 / world
        expect.close(got, mean, f"the gradient of {name}", likely, terms=world)


@check("several steps equal one process, and the ranks agree bit for bit")
def training(learner, draw):
    kinds = {1: "SGD", 2: "AdamW", 8: draw.choice(["SGD", "AdamW"])}
    for world in draw.shuffled(STEPS):
        case = Case(draw, world, kinds[world])
        run = learner.on_ranks(world).drive(
            "train", case.seeds, case.inputs, case.targets, sizes=case.sizes, settings=case.settings,
            returns={str: torch.Tensor},
        )  # fmt: skip
        agree(run.outputs, case)


def agree(outputs, case):
    want = case.one_process()
    for rank, out in enumerate(outputs):
        others = sorted(out.keys() ^ want.keys())
        expect.that(
            not others, "parameters-replaced", f"rank {rank} has more or fewer tensors: {', '.join(others)}"
        )
    parameters = [n for n in want if n not in BUFFERS]
    for names, what in (
        (parameters, "the vector of all parameters"),
        (sorted(BUFFERS), "the vector of all buffers"),
    ):
        got = [vector(out, names) for out in outputs]
        # Each element is the end of a chain of roundings: the ranks' sum, the passes, the optimizer, in every step.
        roundings = {"terms": 64 * case.world, "slack": 2.0}
        try:
            expect.close(got, vector(want, names), what, **roundings)
        except expect.Finding as finding:
            if finding.diagnosis not in ("wrong-values", "not-a-number"):
                raise
            likely = {
                name: tuple([vector(one, names) for one in case.ranks_with(m)] for m in mistakes)
                for name, mistakes in MISTAKES.items()
            }
            expect.close(got, vector(want, names), what, likely, **roundings)
    for name in want:
        expect.same_on_every_rank([out[name] for out in outputs], name)


def vector(tensors, names):
    return torch.cat([tensors[n].reshape(-1).to(torch.float32) for n in names])


# Diagnosis → the mistakes `Case.ranks_with` knows; each may fit.
MISTAKES = {
    "not-divided": ("sum",),
    "divided-by-two": ("half",),
    "buffers-drift": ("drift", "buffers before forward only"),
    "own-gradient": ("own",),
    "tied-twice": ("tied",),
    "not-broadcast": ("keep all",),
    "buffers-not-sent": ("keep buffers",),
    "hidden-buffer": ("keep strength",),
    "integer-buffer": ("keep seen",),
    "frozen-not-sent": ("keep frozen",),
    "trainable-only": ("keep frozen and buffers",),
    "wrong-source": ("last rank's",),
    "averaged-start": ("mean start",),
    "parameters-averaged": ("average parameters",),
    "gradients-kept": ("accumulate", "accumulate own"),
    "gradients-forgotten": ("forget",),
    "buffers-averaged": ("mean buffers",),
}
KEPT = {
    "keep buffers": BUFFERS, "keep strength": {"norm.strength"}, "keep seen": {"norm.seen"}, "keep frozen": FROZEN,
    "keep frozen and buffers": FROZEN | BUFFERS,
}  # fmt: skip


class Case:
    """A training run: seeds and data of every rank, sizes, settings; what is right, and what mistakes make of it."""

    def __init__(self, draw, world, kind):
        self.world, self.sizes, self.seeds = world, draw_sizes(draw, world), seeds_for(draw, world)
        if kind == "SGD":
            self.settings = {"kind": kind, "lr": draw.choice([0.2, 0.3]), "momentum": draw.choice([0.8, 0.9])}
        else:
            # Adam divides by the size of the gradient; a large eps lets a wrong factor show.
            self.settings = {"kind": kind, "lr": draw.choice([0.05, 0.08]), "eps": 0.02, "weight_decay": 0.1}
        self.steps = STEPS[world]
        draw.case(f"{expect.ranks(world)}, {self.steps} steps of {kind}, {BATCH} samples on each rank")
        top = self.sizes[0] - 1

        def tokens():
            one = {"dtype": torch.int64, "low": 0, "high": top}
            return [[draw.tensor(BATCH, **one) for _ in range(self.steps)] for _ in range(world)]

        self.inputs, self.targets = tokens(), tokens()

    def born(self):
        """Every rank's model before anything was sent, in float64."""
        return [drive.Net(self.sizes, seed).double() for seed in self.seeds]

    def one_process(self):
        """One model that sees the parts of the batch one after the other; its buffers follow the first part."""
        model = drive.Net(self.sizes, self.seeds[0]).double()
        optimizer = drive.make_optimizer(model, self.settings)
        for step in range(self.steps):
            optimizer.zero_grad()
            before = [b.clone() for b in model.buffers()]
            for rank in reversed(range(self.world)):
                for buffer, value in zip(model.buffers(), before, strict=True):
                    buffer.copy_(value)
                loss = F.cross_entropy(model(self.inputs[rank][step]), self.targets[rank][step])
                (loss / self.world).backward()
            optimizer.step()
        return drive.tensors(model)

    def ranks_with(self, mistake):
        """What each rank would hold after the same steps with one mistake: a list of named tensors."""
        models = self.born()
        source = models[-1 if mistake == "last rank's" else 0]
        kept = set(drive.tensors(source)) if mistake == "keep all" else KEPT.get(mistake, set())
        first = {n: t.clone() for n, t in drive.tensors(source).items()}
        if mistake == "mean start":
            floats = [n for n in first if first[n].is_floating_point()]
            first |= {n: torch.stack([drive.tensors(m)[n] for m in models]).mean(0) for n in floats}
        for model in models:
            for name, tensor in drive.tensors(model).items():
                if name not in kept:
                    tensor.copy_(first[name])
        optimizers = [drive.make_optimizer(m, self.settings) for m in models]
        for step in range(self.steps):
            if mistake == "buffers before forward only":
                self.send_buffers(models)
            for rank, model in enumerate(models):
                if not mistake.startswith("accumulate"):
                    model.zero_grad()
                F.cross_entropy(model(self.inputs[rank][step]), self.targets[rank][step]).backward()
            if mistake not in ("own", "average parameters", "accumulate own"):
                self.average(models, mistake)
            if mistake == "forget":
                for model in models:
                    model.zero_grad(set_to_none=False)
            for optimizer in optimizers:
                optimizer.step()
            if mistake == "average parameters":
                self.average(models, mistake)
            if mistake not in ("drift", "buffers before forward only"):
                self.send_buffers(models, mean=mistake == "mean buffers")
        return [drive.tensors(m) for m in models]

    def send_buffers(self, models, mean=False):
        """Rank 0's buffers to all; or their mean over the ranks, of those with fractions."""
        for same in zip(*(m.buffers() for m in models), strict=True):
            value = same[0].clone()
            if mean and value.is_floating_point():
                value = torch.stack(same).mean(0)
            for mine in same:
                mine.copy_(value)

    def average(self, models, mistake):
        names = dict(models[0].named_parameters())
        for name, same in zip(names, zip(*(m.parameters() for m in models), strict=True), strict=True):
            if not same[0].requires_grad:
                continue
            divisor = {"sum": 1, "half": 2}.get(mistake, self.world)
            if mistake == "tied" and name == TIED:
                divisor = self.world**2
            values = [p.data if mistake == "average parameters" else p.grad for p in same]
            mean = torch.stack(values).sum(0) / divisor
            for value in values:
                value.copy_(mean)


@check("averaging moves 2(N−1)/N of one gradient per rank", about="communication")
def traffic(learner, draw):
    large = learner.once(Large, draw)
    draw.case(large.words)
    world, size, model = large.world, large.size, large.model
    frozen = 4 * sum(p.numel() for p in model.parameters() if not p.requires_grad)
    tied = 4 * model.embed.weight.numel()
    # The start is sent in both runs; what is left between them is two averages.
    few, many = large.few, large.averages(3)
    before, after = by_operation(few), by_operation(many)
    ops = {op: (after[op] - before.get(op, 0)) / 2 for op in after}
    payload = ops.get("all_reduce", 0)
    single = sum(ops.get(op, 0) for op in ("reduce", "gather", "scatter"))
    expect.that(
        single < 0.5 * size, "through-one-rank",
        f"reduce, gather or scatter of {expect.amount(single)} in one average",
    )  # fmt: skip
    name = "too-much-traffic"
    if ops.get("all_gather", 0) > 1.5 * size:
        name = "gradients-gathered"
    elif abs(payload - size - tied) < 0.05 * size:
        name = "tied-sent-twice"
    elif abs(payload - size - frozen) < 0.05 * size:
        name = "frozen-sent"
    bound = 2 * (world - 1) / world * size * 2
    # All ranks together, the start with them: what one run wastes must not make the other one look cheap.
    start = 4 * (world - 1) * sum(t.numel() for t in drive.tensors(model).values())
    for run, times in ((few, 1), (many, 3)):
        most = 1.06 * (2 * start + 2 * (world - 1) * size * times) + 100_000 * world
        expect.at_most(
            sum(run.sent()),
            most,
            f"bytes sent by all ranks for a start and {expect.count(times, 'average')}",
            name,
        )
    for direction in ("sent", "received"):
        counted = [b - a for a, b in zip(getattr(few, direction)(), getattr(many, direction)(), strict=True)]
        most, least = max(counted), min(counted)
        expect.at_most(
            most,
            1.06 * bound + 100_000,
            f"bytes {direction} by rank {counted.index(most)} in 2 averages",
            name,
        )
        expect.at_least(
            least, 0.94 * bound, f"bytes {direction} by rank {counted.index(least)} in 2 averages",
            "too-little-traffic",
        )  # fmt: skip


def by_operation(run):
    """Payload of rank 0 in bytes for each collective it called."""
    found = {}
    for one in run.collectives[0]:
        found[one.op] = found.get(one.op, 0) + one.bytes
    return found


@check("memory does not grow with the number of ranks", about="memory")
def memory(learner, draw):
    large = learner.once(Large, draw)
    draw.case(large.words)
    # Model, gradients, what the backward pass takes and one exchange are six times S at most; a copy of each rank's
    # gradient makes it eleven or more. What a machine under load adds is not there every time, and not on every rank.
    most = 8 * large.size
    taken = middle(large.few.peak_bytes)
    if taken > most:
        taken = middle(large.averages(1).peak_bytes)
    expect.at_most(taken, most, "memory that one rank needs for its model and one average", "too-much-memory")


class Large:
    """Averages on a larger model, whose cost two checks look at. The means must be right before their cost counts."""

    def __init__(self, learner, draw):
        self.learner, self.draw, self.world = learner, draw, draw.choice([5, 6])
        # What is tied is three times what is frozen, so that bytes tell which of them were sent.
        self.sizes = (draw.odd(1401, 1601), draw.odd(131, 151), draw.odd(451, 501))
        self.model = drive.Net(self.sizes, 1)
        self.size = 4 * sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.words = f"{expect.ranks(self.world)}, float32, one gradient: S = {expect.amount(self.size)}"
        draw.case(self.words)
        self.few = self.averages(1)

    def averages(self, times):
        """Average gradients that nobody can know before, `times` times in one run."""
        own = [drive.pulls(self.model, self.draw.seed()) for _ in range(self.world)]
        ranks = self.learner.on_ranks(self.world)
        run = ranks.drive("many_averages", own, sizes=self.sizes, times=times, returns=[float])
        want = [sum(g[name].double() for g in own) / self.world for name in own[0]]
        for rank, got in enumerate(run.outputs):
            right = len(got) == len(want) and all(map(same_fingerprint, got, want))
            expect.that(right, "result-first", f"the mean is wrong on rank {rank}")
        return run


def middle(values):
    return sorted(values)[len(values) // 2]
