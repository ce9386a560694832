"""Judge of "FSDP2 in practice".

Two references: `fully_shard` itself, run here on ranks of the judge's own, and one process that computes what the ranks
should: each rank's part of the batch with a copy of the weights in bfloat16, gradients averaged and applied in float32.
"""

import copy
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from aboard import ranks
from autograder import expect
from autograder.judge import check, load_module

drive = load_module(Path(__file__).with_name("drive.py"), "drive_of_fsdp2")

NO_LIMIT = 1e9  # a max_norm that clips nothing
# Of a change: how far two computations in bfloat16 may differ that group rows or roundings in another way.
ROUNDING = 0.05


ADAM = {"kind": "AdamW", "lr": 0.05, "eps": 0.05, "weight_decay": 0.1}


@check(
    "every parameter is a float32 DTensor, sharded over all ranks; the optimizer holds these and no others"
)
def start(learner, draw):
    world = draw.choice([3, 4])
    case = Case(draw, world, "talk", rows=world)
    draw.case(f"{expect.ranks(world)}, each with other random numbers")
    run = call(learner.on_ranks(world), "start", case.seeds, sizes=case.sizes, settings=case.settings)
    born = [dict(drive.talk(case.sizes, seed).named_parameters()) for seed in case.seeds]
    for rank, out in enumerate(run.outputs):
        placed(out["parameters"], born, rank)
        expect.that(
            out["tied"], "tie-broken", "the input embedding and the output layer are two parameters now"
        )
        strangers, held = out["strangers"], out["held"]
        expect.that(
            not strangers, "optimizer-before-sharding",
            f"{strangers} of the optimizer's {strangers + held} tensors are no parameters of the model",
        )  # fmt: skip
        expect.that(
            held == len(born[0]),
            "optimizer-misses-some",
            f"the optimizer holds {held} of {len(born[0])} parameters",
        )


def placed(parameters, born, rank):
    """`parameters`, as one rank describes them, are shards of the model that rank 0 was born with."""
    world, first = len(born), born[0]
    # A model in which a tie is broken has one name more; that is told by its own name, elsewhere.
    missing = sorted(first.keys() - parameters.keys())
    expect.that(
        not missing, "wrong-values", f"the model on rank {rank} has no parameter {', '.join(missing)}"
    )
    whole = [
        n for n in first if parameters[n]["placements"] != ["Shard 0"] or parameters[n]["mesh"] != [world]
    ]
    some = (
        f"not sharded over {world} ranks along dimension 0: {', '.join(whole[:3])}{', …' * (len(whole) > 3)}"
    )
    if whole and all(not n.startswith("blocks.") for n in whole) and len(whole) < len(first):
        raise expect.Finding("root-not-sharded", some)
    expect.that(not whole, "not-sharded", some)
    for name, parameter in first.items():
        local, mine = parameters[name]["local"], shard(parameter, world, rank)
        where = f"{name} on rank {rank}"
        if local.dtype != torch.float32:
            dtype = str(local.dtype).removeprefix("torch.")
            raise expect.Finding("master-weights-lost", f"{where} is kept in {dtype}")
        expect.that(
            local.shape == mine.shape,
            "wrong-shape",
            f"{where} has {tuple(local.shape)} of {tuple(parameter.shape)}",
        )
        if not torch.equal(local, mine):
            own = rank and torch.equal(local, shard(born[rank][name], world, rank))
            raise expect.Finding(
                "own-start" if own else "start-changed", f"the numbers of {where} are not those of rank 0"
            )


def shard(tensor, world, rank):
    """Rank's rows: those of torch.chunk, which may leave the last ranks with fewer, or none."""
    chunks = tensor.detach().chunk(world)
    return chunks[rank] if rank < len(chunks) else tensor.detach()[:0]


@check("several steps equal one process, and fully_shard itself")
def training(learner, draw):
    world = draw.choice([2, 3])
    case = telling(draw, world, "talk", world * draw.integer(2, 3), 2)
    agree(learner, case, by_fully_shard(case))
    agree(learner, telling(draw, 1, "talk", draw.integer(2, 5), 2, settings=ADAM))


@check("batches that the ranks cannot share evenly, and fewer rows than ranks")
def uneven(learner, draw):
    world = draw.choice([3, 4])
    rows = world + draw.integer(1, world - 1)
    agree(learner, telling(draw, world, "stack", rows, 1, ["means", "tail", "padded"]))
    try:
        agree(learner, telling(draw, 8, "stack", draw.integer(3, 6)))
    except expect.Finding as finding:
        # With rows on every rank all was well, so this is what is behind it, however it shows.
        if finding.diagnosis in ("not-done", "missing", "wrong-type", "timeout"):
            raise
        raise expect.Finding("rank-without-rows", finding.message) from None


@check("the norm is that of the whole gradient, and clips it")
def clipping(learner, draw):
    world = draw.choice([2, 3])
    case = telling(draw, world, "talk", 2 * world)
    case.max_norm = draw.choice([0.2, 0.3]) * alone(case)["told"][0][1]
    draw.case(f"{case.words}, a gradient longer than max_norm = {case.max_norm:.3g}")
    agree(learner, case)


@check("bfloat16 in the blocks, float32 for the sum of the gradients and for the weights")
def precision(learner, draw):
    # One row a rank, and a power of two ranks: however rows are shared and means are taken, the roundings are the same.
    world = 2
    case = Case(draw, world, "stack", rows=world, steps=2)
    run = trained(learner, case)
    got = assembled(run, case)
    off = distance(got, alone(case)["parameters"], case)
    if off > 3e-4:
        by = f"the change of the parameters is off by {100 * off:.2g} %"
        expect.that(off < ROUNDING, "result-first", by)
        for diagnosis, made in PRECISIONS.items():
            likely = (distance(got, alone(case, one)["parameters"], case) for one in made)
            expect.that(min(likely) > off / 3, diagnosis, by)
        raise expect.Finding("wrong-precision", by)


PRECISIONS = {
    "computed-in-float32": ("compute float32",),
    "reduced-in-bfloat16": ("reduce bfloat16",),
    "whole-batch": ("all rows",),
}


@check(
    "the bytes and the collectives of one unit per block, gathered twice and reduced once",
    about="communication",
)
def traffic(learner, draw):
    model = learner.once(Costly, draw)
    draw.case(f"{model.words}, {model.few} blocks")
    none, some = model.run(model.few, 0), model.run(model.few, model.STEPS)
    name = model.who(some, model.few)
    bound = model.STEPS * model.bytes_per_step()
    for direction in ("sent", "received"):
        # What `prepare` sends is in both runs; what is left are the steps.
        counted = [b - a for a, b in zip(getattr(none, direction)(), getattr(some, direction)(), strict=True)]
        most, least = max(counted), min(counted)
        what = f"bytes {direction} in {model.STEPS} steps by rank "
        expect.at_most(
            most, 1.05 * bound + 60_000, what + str(counted.index(most)), name or "too-much-traffic"
        )
        expect.at_least(least, 0.97 * bound, what + str(counted.index(least)), name or "too-little-traffic")
    # Bytes can be sent for nothing. Who holds the whole, weights and two moments, needs this in bfloat16 even.
    model.needs_at_most(1.45 * model.block_bytes(), "not-sharded")
    gathers, scatters = model.counted(some)
    expect.that(scatters > 0, "not-sharded", "no reduce-scatter")
    expect.that(
        scatters <= model.few + 1 and gathers <= 2 * model.few + 1, name or "too-many-units",
        f"{gathers:g} all-gathers and {scatters:g} reduce-scatters in a step of {model.few} blocks",
    )  # fmt: skip


@check("a rank needs its shards, its activations, and one unit at a time", about="memory")
def memory(learner, draw):
    model = learner.once(Costly, draw)
    draw.case(f"{model.words}, {model.few} and {model.many} blocks")
    # A rank may have some 1.5 MB more than the solution. Right answers were seen 0.7 MB above it, who frees nothing 2.3.
    model.needs_at_most(model.memory_per_block() + 0.36 * model.block_bytes(), "too-much-memory")


@check("rank 0 has the whole checkpoint, the others nothing", about="memory")
def checkpoint(learner, draw):
    world = draw.choice([3, 4])
    seeds, sizes = [draw.seed() for _ in range(world)], (draw.odd(501, 601), draw.choice([172, 188]), 4)
    draw.case(f"{expect.ranks(world)}, {sizes[2]} blocks")
    run = call(learner.on_ranks(world), "checkpoint", seeds, sizes=sizes)
    want = drive.talk(sizes, seeds[0]).state_dict()
    state = run.outputs[0]
    expect.that(isinstance(state, dict), "wrong-type", f"full_state gave a value of type {state}, not a dict")
    missing, more = sorted(want.keys() - state.keys()), sorted(state.keys() - want.keys())
    expect.that(not (missing or more), "other-names", f"missing: {missing[:3]}; not in the model: {more[:3]}")
    for name, whole in want.items():
        got = state[name]
        if not isinstance(got, torch.Tensor):
            raise expect.Finding("still-sharded" if got == "DTensor" else "wrong-type", f"{name} is a {got}")
        part = got.shape == shard(whole, world, 0).shape != whole.shape
        expect.that(not part, "own-shard-saved", f"{name} has {len(got)} of {len(whole)} rows")
        expect.that(got.shape == whole.shape, "wrong-shape", f"{name} has shape {tuple(got.shape)}")
        expect.that(
            got.dtype == whole.dtype,
            "wrong-dtype",
            f"{name} has dtype {str(got.dtype).removeprefix('torch.')}",
        )
        if not torch.equal(got, whole):
            own = torch.cat(
                [shard(drive.talk(sizes, seed).state_dict()[name], world, r) for r, seed in enumerate(seeds)]
            )
            raise expect.Finding(
                "own-start" if torch.equal(got, own) else "wrong-values", f"the numbers of {name} are others"
            )
    for rank, other in enumerate(run.outputs[1:], 1):
        expect.that(not other, "full-on-every-rank", f"rank {rank} returns {len(other)} entries")
    # Rank 0 ends with its shards and the whole; the others should never have had much more than their shards.
    peaks, size = run.peak_bytes, sum(p.nbytes for p in drive.talk(sizes, 0).parameters())
    most = max(peaks[1:])
    expect.at_most(
        most, peaks[0] - 0.4 * size, f"peak memory of rank {peaks.index(most, 1)}, where rank 0 had "
        f"{expect.amount(peaks[0])} and the model is {expect.amount(size)}", "full-on-every-rank",
    )  # fmt: skip


class Case:
    """A training run: a model, what every rank is born with, global batches, settings."""

    def __init__(self, draw, world, kind, rows, steps=1, settings=None):
        self.world, self.kind, self.steps, self.max_norm = world, kind, steps, NO_LIMIT
        vocabulary = draw.uneven(21, 41, world)
        if kind == "talk":
            self.sizes = (vocabulary, draw.choice([12, 20]), 2)
        else:
            self.sizes = (vocabulary, draw.odd(7, 11), draw.uneven(5, 13, world), 2)
        self.seeds = [draw.seed() for _ in range(world)]
        self.settings = settings or {
            "kind": "SGD",
            "lr": draw.choice([0.2, 0.3]),
            "momentum": draw.choice([0.8, 0.9]),
        }
        shape = (rows, 6) if kind == "talk" else (rows,)

        def tokens():
            return draw.tensor(*shape, dtype=torch.int64, low=0, high=vocabulary - 1)

        self.inputs = [tokens() for _ in range(steps)]
        self.targets = [
            tokens() if kind == "talk" else draw.tensor(rows, low=-0.9, high=0.9) for _ in range(steps)
        ]
        self.words = (
            f"{expect.ranks(world)}, {steps} step{'s' * (steps != 1)} of {self.settings['kind']}, {rows} rows"
        )
        draw.case(self.words)

    def model(self, seed):
        return drive.MODELS[self.kind](self.sizes, seed)

    def rows_of(self, rank, rows, made):
        """(rows, weight): what `rank` sees of a batch of `rows`, and how often its mean counts in the sum over ranks."""
        each = rows // self.world
        if "all rows" in made:
            return range(rows), 1.0
        if "first rows" in made:
            return range(each), 1.0
        if "rows of rank 0" in made:
            return range(0, rows, self.world), 1.0
        if "tail" in made:
            return range(rank * each, (rank + 1) * each), 1.0
        if "padded" in made:
            most = -(-rows // self.world)
            mine = (
                range(rank * most, (rank + 1) * most)
                if "chunk" in made
                else range(rank, most * self.world, self.world)
            )
            return [i % rows for i in mine], 1.0
        mine = range(rank, rows, self.world)
        if "split" in made:  # torch.tensor_split: contiguous
            mine = torch.arange(rows).tensor_split(self.world)[rank].tolist()
        if "chunk" in made:
            mine = [*torch.arange(rows).chunk(self.world), *[torch.arange(0)] * self.world][rank].tolist()
        return mine, (1.0 if "means" in made else len(mine) * self.world / rows)


def telling(draw, world, kind, rows, steps=1, mistakes=(), settings=None):
    """A case in which `mistakes` and a loss of one rank only can be told from what is right, and roundings stay small."""
    for _ in range(50):
        case = Case(draw, world, kind, rows, steps, settings)
        right, exact = alone(case), alone(case, "compute float32")
        # What bfloat16 changes here; a right answer that rounds in other places is well below it.
        noise = [abs(a[1] / b[1] - 1) for a, b in zip(exact["told"], right["told"], strict=True)]
        noise.append(distance(exact["parameters"], right["parameters"], case))
        apart = all(
            distance(alone(case, m)["parameters"], right["parameters"], case) > 4 * ROUNDING for m in mistakes
        )
        losses = zip(right["told"], right["own"], strict=True)
        several = any(abs(one[0] / loss - 1) > 0.03 for (loss, _), own in losses for one in own)
        if max(noise) < 0.6 * ROUNDING and apart and (several or world == 1):
            break
    return case


def alone(case, made=""):
    """The run in one process, with the mistakes named in `made`.

    {"told": (loss, norm) of each step, "own": of each step and rank, its own loss, that times its weight, and
    the norm of its shards, "parameters": by name, float32}
    """
    model = case.model(case.seeds[0])
    if "own start" in made:
        born = [dict(case.model(seed).named_parameters()) for seed in case.seeds]
        for name, parameter in model.named_parameters():
            parts = [shard(b[name], case.world, rank) for rank, b in enumerate(born)]
            parameter.data = torch.cat(parts)
    if "untied" in made and case.kind == "talk":
        model.unembed.weight = torch.nn.Parameter(model.embed.weight.detach().clone())
    computing = torch.float32 if "compute float32" in made else torch.bfloat16
    optimizer = drive.optimizer_maker(case.settings)(model.parameters())
    told, own = [], []
    for inputs, targets in zip(case.inputs, case.targets, strict=True):
        sums = [torch.zeros(p.shape) for p in model.parameters()]
        losses, total = [], 0.0
        for rank in range(case.world):
            rows, weight = case.rows_of(rank, len(inputs), made)
            if not len(rows):
                losses.append((0.0, 0.0))
                continue
            part = in_dtype(model, computing)
            loss = part.loss(inputs[list(rows)], targets[list(rows)])
            (weight * loss).backward()
            losses.append((loss.item(), weight * loss.item()))
            total += weight * loss.item() / case.world
            for s, p in zip(sums, part.parameters(), strict=True):
                s += p.grad.float()
        over = 1 if "times N" in made else case.world**2 if "over N" in made else case.world
        kept = [p.grad for p in model.parameters()] if "kept" in made and told else [0] * len(sums)
        for p, s, before in zip(model.parameters(), sums, kept, strict=True):
            mean = (s.bfloat16() / over).float() if "reduce bfloat16" in made else s / over
            p.grad = mean + before
        gradients = [p.grad for p in model.parameters()]
        shards = [[shard(g, case.world, rank).clone() for g in gradients] for rank in range(case.world)]
        norm = norm_of(gradients)
        for rank, parts in enumerate(shards):
            length = norm_of(parts) if "local norm" in made else norm
            factor = 1.0 if "not clipped" in made else min(1.0, case.max_norm / (length + 1e-6))
            for gradient in gradients:
                shard(gradient, case.world, rank).mul_(factor)
        if "nothing" not in made:
            optimizer.step()
        told.append((total, norm))
        own.append([(*both, norm_of(parts)) for both, parts in zip(losses, shards, strict=True)])
    names = [n for n, _ in case.model(0).named_parameters()]
    parameters = {n: model.get_parameter(n).detach().float() for n in names}
    return {"told": told, "own": own, "parameters": parameters}


def norm_of(tensors):
    return float(torch.nn.utils.get_total_norm(tensors))


def in_dtype(model, dtype):
    """A copy of `model` that computes in `dtype`. As fully_shard does, it casts what a block is handed as well."""
    part = copy.deepcopy(model).to(dtype)
    for block in part.blocks:
        block.register_forward_pre_hook(
            lambda module, args: tuple(a.to(dtype) if a.is_floating_point() else a for a in args)
        )
    return part


def by_fully_shard(case):
    """The same run by fully_shard, on ranks of the judge's own."""
    run = ranks.run(lambda rank: convert_and_train(rank, case), case.world, list(range(case.world)))
    return {"told": run.outputs[0]["told"], "parameters": assembled(run, case)}


def convert_and_train(rank, case):
    model = case.model(case.seeds[0])
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    optimizer = drive.optimizer_maker(case.settings)(model.parameters())
    told = []
    for inputs, targets in zip(case.inputs, case.targets, strict=True):
        loss = model.loss(inputs[rank :: case.world], targets[rank :: case.world])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), case.max_norm)
        optimizer.step()
        mean = loss.detach()
        dist.all_reduce(mean)
        told.append((float(mean) / case.world, float(norm.full_tensor())))
    return {"told": told, "parameters": drive.describe(model)}


# Diagnosis → mistakes that `alone` can make; any may fit.
MISTAKES = {
    "optimizer-before-sharding": ("nothing",),
    "own-start": ("own start",),
    "not-clipped": ("not clipped",),
    "local-norm": ("local norm",),
    "divided-twice": ("over N",),
    "summed": ("times N",),
    "same-rows": ("first rows", "rows of rank 0"),
    "rows-lost": ("tail",),
    "rows-twice": ("padded", "padded, chunk"),
    "mean-of-means": ("means", "means, split", "means, chunk"),
    "gradients-kept": ("kept",),
    "tie-broken": ("untied",),
}


def call(crew, function, *args, **kwargs):
    """`crew.drive(…)`, or `crew.converse(…)` if there is something for later, with what fully_shard says in its own words
    translated."""
    try:
        return (crew.converse if "later" in kwargs else crew.drive)(function, *args, **kwargs)
    except expect.Finding as finding:
        for text, diagnosis in SAYS.items():
            # PyTorch raises NotImplementedError as well, which otherwise stands for an answer still to be written.
            if finding.diagnosis in ("raised", "not-done") and text in finding.message:
                raise expect.Finding(diagnosis, finding.message) from None
        if finding.diagnosis == "died":
            raise expect.Finding("sizes-differ", finding.message) from None
        raise


SAYS = {
    "shared with a parameter already managed": "tied-apart",
    "does not have a sharding strategy": "collective-of-dtensor",
    "to have the same dtype": "outside-the-policy",
    "got mixed torch.Tensor and DTensor": "root-not-sharded",
    "value was None when it should not be": "root-first",
    "'Tensor' object has no attribute": "plain-tensor",
    "'Parameter' object has no attribute": "plain-tensor",
}


def trained(learner, case):
    world = case.world
    return call(
        learner.on_ranks(world), "train", case.seeds, [case.inputs] * world, [case.targets] * world,
        kind=case.kind, sizes=case.sizes, settings=case.settings, max_norm=case.max_norm,
    )  # fmt: skip


def assembled(run, case):
    """The whole parameters, float32, from the ranks' shards. One that is not sharded must be the same on every rank."""
    described = [out["parameters"] for out in run.outputs]
    for name, there in described[0].items():
        dtype = str(there["local"].dtype).removeprefix("torch.")
        expect.that(dtype == "float32", "master-weights-lost", f"{name} is kept in {dtype}")
    found = {}
    for name, parameter in case.model(0).named_parameters():
        there = [d[name] for d in described if name in d]
        expect.that(len(there) == case.world, "wrong-values", f"not every rank has a parameter {name}")
        parts = [t["local"] for t in there]
        if there[0]["placements"] == ["Shard 0"]:
            shapes = [shard(parameter, case.world, rank).shape for rank in range(case.world)]
            expect.that([p.shape for p in parts] == shapes, "wrong-shape", f"{name} has parts of other sizes")
            found[name] = torch.cat(parts).float()
        else:
            sharded = any(t["placements"] for t in described[0].values())
            expect.same_on_every_rank(parts, name, "root-not-sharded" if sharded else "ranks-differ")
            found[name] = parts[0].float()
            expect.that(parts[0].shape == parameter.shape, "wrong-shape", f"{name} has another shape")
    return found


def distance(got, want, case):
    """How far `got` is from `want`, as a part of the change that the steps made."""
    start = dict(case.model(case.seeds[0]).named_parameters())
    off = sum(float((got[n] - w).double().square().sum()) for n, w in want.items()) ** 0.5
    change = sum(float((start[n].detach() - w).double().square().sum()) for n, w in want.items()) ** 0.5
    return off / max(change, 1e-9) if off == off else float("inf")


def agree(learner, case, want=None):
    run = trained(learner, case)
    want = want or alone(case)
    got = assembled(run, case)
    off = distance(got, want["parameters"], case)
    if off > ROUNDING:
        by = f"the change of the parameters in {case.words} is off by {100 * off:.2g} %"
        finite = all(torch.isfinite(t).all() for t in got.values())
        expect.that(finite, "not-a-number", "the parameters contain NaN or infinity")
        near = {}
        for diagnosis, mistakes in MISTAKES.items():
            for made in mistakes:
                likely = alone(case, made)["parameters"]
                # A mistake that makes no difference here is none that can be told from it.
                if distance(likely, want["parameters"], case) > 2 * ROUNDING:
                    near[diagnosis] = min(near.get(diagnosis, 1e9), distance(got, likely, case))
        name = min(near, key=near.get, default="wrong-values")
        raise expect.Finding(name if near.get(name, 1e9) < min(off / 3, 2 * ROUNDING) else "wrong-values", by)
    own = want.get("own") or alone(case)["own"]
    for rank, out in enumerate(run.outputs):
        told_right(out["told"], want, rank, own)


def told_right(told, want, rank, own):
    """(loss, norm) of each step are those of the whole batch. `own`: of each step, what each rank has for itself."""
    for step, pair in enumerate(told):
        pair = two_numbers(pair)
        loss, weighted, norm = own[step][rank]
        world = len(own[step])
        for what, got, right, mine in zip(
            ("loss", "norm"), pair, want["told"][step], ((loss, weighted), (norm,)), strict=True
        ):
            if abs(got - right) <= (0.005 if what == "loss" else ROUNDING) * right:
                continue
            likely = {f"own-{what}": mine, "divided-twice": [right / world], "summed": [right * world]}
            names = [n for n, values in likely.items() if any(abs(got - v) <= 0.01 * abs(v) for v in values)]
            if what == "loss" and {"divided-twice", "summed"} & set(names):
                norm_right = abs(pair[1] - want["told"][step][1]) <= ROUNDING * want["told"][step][1]
                names = ["loss-scaled"] if norm_right and world > 1 else names
            by = f"{got:.4g}, which is {got / right:.3g} times what it should be"
            raise expect.Finding(
                [*names, f"wrong-{what}"][0], f"the {what} on rank {rank} in step {step + 1} is {by}"
            )


def peak(run):
    """Peak memory of a rank in bytes. All do the same, so their mean is steadier than the largest."""
    return sum(run.peak_bytes) / run.world_size


def two_numbers(pair):
    """What train_step returned, as two floats."""
    fits = isinstance(pair, list | tuple) and len(pair) == 2 and all(number(v) for v in pair)
    expect.that(fits, "wrong-type", "train_step should return two floats, the loss and the norm")
    return [float(v) for v in pair]


def number(value):
    return type(value) in (int, float) or (isinstance(value, torch.Tensor) and value.numel() == 1)


class Costly:
    """Runs of a Dense large enough to measure, made once for the checks that read their meters.

    Each rank is handed its own rows only, and those of a step when the one before is done. With eight ranks and two moments
    for each parameter, what shards need is far below what somebody needs who has it all, in bfloat16 even. And blocks are
    few and small enough that the whole model, as it is born, and a copy in `prepare` or two, are below the peak of a step.
    """

    world, STEPS, few, many = 8, 2, 2, 8

    def __init__(self, learner, draw):
        self.learner, self.runs, self.solved = learner, {}, None
        # For the difference of two runs: what `prepare` needs grows with the blocks too. When answers are graded, somebody could let go of it.
        self.ballast = 10_000_000 if learner.local else 0
        self.features, self.width, self.hidden = (
            draw.integer(121, 141),
            8 * draw.integer(5, 7),
            8 * draw.integer(220, 236),
        )
        # Rows of a rank: its activations are about half as large as a block
        self.rows = 2 * self.width + draw.integer(-2, 2)
        # The ranks' targets lie apart, so that one rank's gradient is not that of all.
        apart = draw.shuffled([-1.5, -1.0, -0.75, -0.25, 0.5, 1.0, 1.25, 1.5])
        self.batches = [
            [[draw.tensor(self.rows, self.features), middle + draw.tensor(self.rows)] for middle in apart]
            for _ in range(self.STEPS)
        ]
        self.words = (
            f"{expect.ranks(self.world)}, {self.STEPS} steps, {expect.amount(self.block_bytes())} in a block"
        )

    def run(self, layers, steps):
        if (layers, steps) not in self.runs:
            try:
                self.runs[layers, steps] = self.measure(layers, steps, self.learner)
            except expect.Finding as finding:
                self.runs[layers, steps] = finding
        run = self.runs[layers, steps]
        if isinstance(run, expect.Finding):
            raise run
        return run

    def measure(self, layers, steps, learner):
        sizes = (self.features, self.width, self.hidden, layers)
        batches = self.batches[:steps]
        run = call(
            learner.on_ranks(self.world), "costly", list(range(self.world)), sizes=sizes, world=self.world, ballast=self.ballast,
            later=[*batches, [[]] * self.world], says=None, returns=[int],
        )  # fmt: skip
        want = self.told(sizes, batches)
        for step, right in enumerate(want):
            for rank, said in enumerate(run.said):
                got = two_numbers(said[step + 1])
                if not self.alike(got, right):
                    where = f"loss and norm are wrong in step {step + 1} on rank {rank}"
                    raise expect.Finding(self.who_reads(run, sizes, batches, step, got), where)
        return run

    @staticmethod
    def alike(got, right):
        return all(abs(a - b) <= ROUNDING * b for a, b in zip(got, right, strict=True))

    def who_reads(self, run, sizes, batches, step, got):
        """The name of what is wrong with `got`: rows of other ranks were read, or something else, which comes first."""
        if step == 0 and self.alike(got, self.told(sizes, batches[:1], "all rows")[0]):
            return "whole-batch"
        if step == 0 and self.alike(got, self.told(sizes, batches[:1], "other rows")[0]):
            return "others-rows"
        return "result-first"

    def told(self, sizes, batches, made=""):
        """Loss and norm of each step in one process; or of ranks that read rows which are not theirs."""
        model = drive.Dense(sizes, 7)
        optimizer = drive.optimizer_maker(drive.COSTLY)(model.parameters())
        told = []
        for batch in batches:
            total = 0.0
            model.zero_grad()
            for rank, parts in enumerate(batch):
                inputs, targets = parts
                if made:
                    inputs, targets = (drive.spread(part, rank, self.world) for part in parts)
                if made == "other rows":
                    inputs, targets = (part.tensor_split(self.world)[rank] for part in (inputs, targets))
                loss = model.loss(inputs, targets) / self.world
                loss.backward()  # of one rank at a time: what a graph keeps of all of them is half a gigabyte
                total += loss.item()
            told.append((total, norm_of([p.grad for p in model.parameters()])))
            optimizer.step()
        return told

    def block_bytes(self):
        """Of one block's weights in float32."""
        return 4 * 2 * self.hidden * self.width

    def bytes_per_step(self):
        """That each rank sends with few blocks: blocks gathered twice and the root once in bfloat16, all reduced in float32."""
        blocks, root = self.few * self.block_bytes() // 4, self.features * self.width
        return (self.world - 1) / self.world * (2 * (2 * blocks + root) + 4 * (blocks + root))

    def needs_at_most(self, per_block, name):
        """A block adds at most `per_block` bytes to the peak memory of a rank.

        On her own machine that is the difference of two runs. A program can tell a run of few blocks from one of many, though, and
        keep something in the first one only; what the solution needs with as many, nothing of the learner's can change.
        """
        run = self.run(self.many, self.STEPS)
        if self.solved is None:
            self.solved = self.learner.solved(
                lambda solved: peak(self.measure(self.many, self.STEPS, solved))
            )
        diagnosis, more = self.who(run, self.many) or name, self.many - self.few
        if self.solved is None:
            size, few = expect.amount(self.block_bytes()), self.run(self.few, self.STEPS)
            what = f"what a block of {size} adds to the peak memory of a rank"
            expect.at_most((peak(run) - peak(few)) / more, per_block, what, diagnosis)
            return
        held = sum(run.counters.held_before_bytes) / self.world
        before = f", {expect.amount(held)} of it for what the cells import and keep" if held > 300_000 else ""
        bound = self.solved + (per_block - self.memory_per_block()) * more
        expect.at_most(peak(run), bound, f"peak memory of a rank with {self.many} blocks{before}", diagnosis)

    def memory_per_block(self):
        """Shards of weight and two moments and the activations in bfloat16, at the end of the forward pass; or shards of
        gradient, weight and moments, at the end of the step. A block saves what its matrices are multiplied with."""
        shards = self.block_bytes() / self.world
        activations = 2 * self.rows * (self.width + self.hidden)
        return max(3 * shards + activations, 4 * shards)

    def counted(self, run):
        """All-gathers and reduce-scatters in a step, as rank 0 says, of more than a few numbers."""
        run.ops(0)  # compares with the kernel's count
        large = [c.op for c in run.collectives[0] if c.bytes > 500]
        return large.count("all_gather") / self.STEPS, large.count("reduce_scatter") / self.STEPS

    def who(self, run, layers):
        """The name of what costs too much or too little: from what a rank says it called. None: nothing stands out."""
        gathers, scatters = self.counted(run)
        sums = {
            op: sum(c.bytes for c in run.collectives[0] if c.op == op)
            for op in ("all_gather", "reduce_scatter")
        }
        blocks, root = layers * self.block_bytes() // 4, self.features * self.width
        gathered = sums["all_gather"] / self.STEPS / (2 * (2 * blocks + root))
        reduced = sums["reduce_scatter"] / self.STEPS / (4 * (blocks + root))
        if max(run.outputs[0], default=0) > 1.5 * self.rows:
            return "whole-batch"
        if not scatters:
            return "not-sharded"
        if scatters == 1:
            return "root-only"
        if reduced < 0.7:
            return "reduced-in-bfloat16"
        if gathered > 1.5:
            return "computed-in-float32"
        if scatters > layers + 1:
            return "too-many-units"
        if gathers <= layers + 1:
            return "never-resharded"
        if gathers == 2 * layers + 2:
            return "root-gathered-twice"
        return "outside-the-policy" if gathered > 1.08 else None
