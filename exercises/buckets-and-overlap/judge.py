"""Judge of "Buckets and overlap"."""

import math
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from aboard import ranks
from aboard.ranks.fingerprint import same_fingerprint
from autograder import expect
from autograder.judge import check, load_module

drive = load_module(Path(__file__).with_name("drive.py"), "drive_of_buckets_and_overlap")

WORLDS = (1, 3, 4, 8)  # and 2, which comes first
STEPS = 3
OTHERS_FAULT = ("not-done", "missing", "wrong-dtype", "wrong-shape")


def draw_net(draw, mixed, blocks=(3, 5), parts=3):
    """Settings of a Net, and a cap on the buckets of about one part in `parts` of all gradients."""
    sizes = (draw.odd(9, 15), draw.odd(5, 9), draw.odd(7, 13))
    low, high = draw.choice([(torch.bfloat16, torch.float32), (torch.float32, torch.float64)])
    dtypes = (high, low) if mixed else draw.choice([(low, low), (high, high)])
    net = {"sizes": sizes, "blocks": draw.integer(*blocks), "dtypes": dtypes}
    trainable = [p for p in drive.Net(**net).parameters() if p.requires_grad]
    whole, largest = sum(p.nbytes for p in trainable), max(p.nbytes for p in trainable)
    return net | {"cap_bytes": max(largest + 100, draw.integer(whole // (parts + 1), whole // parts))}


def describe(net):
    names = [str(d).removeprefix("torch.") for d in dict.fromkeys(net["dtypes"])]
    return f"{' and '.join(names)}, at most {net['cap_bytes']:,} bytes in a bucket"


# ------------------------------------------------------------------------------------------------------- buckets


@check("buckets hold every trainable parameter once, last one first, and are full")
def buckets(learner, draw):
    for mixed, small in ((False, False), (False, True), (True, False)):
        # So many that what fits by its number of elements is less than everything.
        net = draw_net(draw, mixed, blocks=(11, 13), parts=9)
        model = drive.Net(**{k: v for k, v in net.items() if k != "cap_bytes"})
        sizes = {n: p.nbytes for n, p in model.named_parameters()}
        backwards = [n for n, p in model.named_parameters() if p.requires_grad][::-1]
        if small:  # the last three parameters fit exactly; some others are larger than a bucket
            net["cap_bytes"] = sum(sizes[n] for n in backwards[:3])
        draw.case(
            f"{len(backwards)} trainable parameters of {sum(sizes[n] for n in backwards):,} bytes, {describe(net)}"
        )
        got = learner.drive("bucket_names", **net, returns=[[str]])
        buckets_are_right(got, model, sizes, backwards, net["cap_bytes"])


def buckets_are_right(got, model, sizes, backwards, cap):
    dtypes = {n: p.dtype for n, p in model.named_parameters()}
    flat = [name for bucket in got for name in bucket]
    expect.that("?" not in flat, "wrong-type", "a bucket holds something that is no parameter of the model")
    frozen = [n for n in flat if n not in backwards]
    expect.that(not frozen, "frozen-in-bucket", f"frozen, and in a bucket: {', '.join(frozen)}")
    twice = sorted({n for n in flat if flat.count(n) > 1})
    expect.that(not twice, "tied-twice", f"more than once in the buckets: {', '.join(twice)}")
    lost = [n for n in backwards if n not in flat]
    expect.that(not lost, "parameter-lost", f"in no bucket: {', '.join(lost)}")
    expect.that(all(got), "empty-bucket", f"the buckets have {[len(b) for b in got]} parameters")
    mixed = [number for number, bucket in enumerate(got) if len({dtypes[n] for n in bucket}) > 1]
    expect.that(not mixed, "mixed-dtype", f"bucket {mixed[:1]} has more than one dtype")
    place = {n: index for index, n in enumerate(backwards)}
    firsts = [place[bucket[0]] for bucket in got]
    inside = all(place[a] < place[b] for bucket in got for a, b in zip(bucket, bucket[1:], strict=False))
    if not inside or firsts != sorted(firsts):
        name = "forward-order" if flat[0] == backwards[-1] else "wrong-order"
        raise expect.Finding(name, f"the first bucket begins with {flat[0]}, the last one with {got[-1][0]}")
    bytes_of = [sum(sizes[n] for n in bucket) for bucket in got]
    for number, bucket in enumerate(got):
        if len(bucket) > 1 and bytes_of[number] > cap:
            elements = [sum(sizes[n] // dtypes[n].itemsize for n in b) for b in got]
            one_too_many = all(size - sizes[b[-1]] <= cap for size, b in zip(bytes_of, got, strict=True))
            counted = max(elements) <= cap and not one_too_many
            name = "one-bucket" if len(got) == 1 else "cap-in-elements" if counted else "cap-exceeded"
            raise expect.Finding(
                name, f"bucket {number} has {bytes_of[number]:,} bytes, and the cap is {cap:,}"
            )
    for number, (bucket, following) in enumerate(zip(got, got[1:], strict=False)):
        together = bytes_of[number] + sizes[following[0]]
        if dtypes[bucket[0]] == dtypes[following[0]] and together <= cap:
            name = "one-per-parameter" if len(flat) == len(got) else "bucket-not-full"
            raise expect.Finding(
                name,
                f"bucket {number} has {bytes_of[number]:,} bytes; with the next parameter it would be {together:,}",
            )


# -------------------------------------------------------------------------------------------------------- result


class Case:
    """Steps on a Net: what every rank uses, in which order, and the mean that must come out."""

    def __init__(self, draw, world, net, late=-1):
        self.world, self.net, self.late = world, net, late
        self.model = drive.Net(**{k: v for k, v in net.items() if k != "cap_bytes"})
        self.seeds = [[draw.seed() for _ in range(STEPS)] for _ in range(world)]
        self.orders = [drive.uses(self.model) for _ in range(world)]
        self.names = [n for n, p in self.model.named_parameters() if p.requires_grad]

    def leave_out(self, rank, name):
        self.orders[rank] = [n for n in self.orders[rank] if n != name]

    def own(self, step):
        """Per rank, its gradients before anything is sent: float64, zeros where a parameter takes no part."""
        found = []
        for seeds, order in zip(self.seeds, self.orders, strict=True):
            pulls = drive.pulls(self.model, seeds[step])
            grads = {
                n: torch.zeros_like(self.model.get_parameter(n), dtype=torch.float64) for n in self.names
            }
            for name in order:
                grads["embed.weight" if name == "head.weight" else name] += pulls[name].double()
            found.append({n: g.detach().to(self.model.get_parameter(n).dtype) for n, g in grads.items()})
        return found

    def mean(self, step):
        own = self.own(step)
        return {n: (sum(g[n].double() for g in own) / self.world).to(own[0][n].dtype) for n in self.names}

    def run(self, learner):
        pulls = [[drive.pulls(self.model, seed) for seed in seeds] for seeds in self.seeds]
        return learner.on_ranks(self.world).drive(
            "gradients", pulls, self.orders, late=self.late, **self.net, returns=[{str: None}]
        )

    def used(self, name):
        aliases = ("embed.weight", "head.weight") if name == "embed.weight" else (name,)
        return any(alias in order for order in self.orders for alias in aliases)

    def compare(self, run, reference=None):
        """Raise what is wrong with the first wrong step. `reference`: per rank and step, in place of the mean."""
        for step in range(STEPS):
            want = self.mean(step) if reference is None else reference[step]
            got = [output[step] for output in run.outputs]
            for name in self.names:
                for rank, grads in enumerate(got):
                    if grads.get(name) is None and not self.used(name):
                        grads[name] = torch.zeros_like(want[name])
                    expect.that(
                        grads.get(name) is not None,
                        "no-gradient",
                        f"step {step + 1}: {name} has None on rank {rank}",
                    )
            try:
                for name in self.names:
                    what = f"step {step + 1}: the gradient of {name}"
                    expect.close([g[name] for g in got], want[name], what, terms=2 * self.world)
            except expect.Finding as finding:
                if finding.diagnosis != "wrong-values":
                    raise
                raise expect.Finding(self.why(run, step, want, got), finding.message) from None
            for name in self.names:
                expect.same_on_every_rank([g[name] for g in got], f"step {step + 1}: the gradient of {name}")

    def why(self, run, step, want, got):
        """The name of a wrong step: what its wrong gradients are instead."""
        own, world = self.own(step), self.world
        wrong = [(r, n) for r in range(world) for n in self.names if not alike(got[r][n], want[n], world)]

        def all_are(value):
            return all(alike(got[r][n], value(r, n), world) for r, n in wrong)

        for name, factor in (
            ("not-divided", world),
            ("divided-twice", 1 / world),
            ("divided-by-two", world / 2),
        ):
            if all_are(lambda r, n, factor=factor: want[n].double() * factor):
                return name
        if all_are(lambda r, n: own[r][n].double() + want[n].double()):
            return "added-to-own"
        if step:
            return "second-step"
        mine = [alike(got[r][n], own[r][n], world) for r, n in wrong]
        share = [alike(got[r][n], own[r][n].double() / world, world) for r, n in wrong]
        sent = run.payload_bytes()[0]
        whole = STEPS * sum(self.model.get_parameter(n).nbytes for n in self.names)
        if all(mine) and sent < 0.99 * whole:
            return "bucket-not-sent" if sent else "own-gradient"
        wide = {
            (r, n) for r in range(world) for n in self.names if want[n].numel() > 4
        }  # right by chance: hardly
        if all(mine) and wide <= set(wrong):
            return "not-copied-back"
        # A bucket that is read too early may be in any state, but some are still as they were.
        if wide & {where for where, a, b in zip(wrong, mine, share, strict=True) if a or b}:
            return "not-waited"
        low = min(self.net["dtypes"], key=lambda d: d.itemsize)
        if all(
            got[r][n].dtype.itemsize > low.itemsize and alike(got[r][n].to(low), want[n].to(low), world)
            for r, n in wrong
        ):
            return "rounded"
        together = [
            torch.cat([g[n].double().flatten() for n in self.names]).sort().values for g in (got[0], want)
        ]
        if alike(*together, world, torch.bfloat16 if torch.bfloat16 in self.net["dtypes"] else torch.float32):
            return "wrong-place"
        return "wrong-values"


def alike(got, want, world, dtype=None):
    eps = torch.finfo(dtype or got.dtype).eps
    return torch.allclose(got.double(), want.double(), rtol=4 * eps * math.sqrt(world), atol=4 * eps)


@check("gradients become the mean over the ranks, step after step")
def result(learner, draw):
    # One rank begins later than the other, so that who does not wait has nothing to take.
    case = Case(draw, 2, draw_net(draw, mixed=True), late=draw.integer(0, 1))
    draw.case(f"2 ranks, rank {case.late} later than the other; {describe(case.net)}; {STEPS} steps")
    case.compare(case.run(learner))
    for world in draw.shuffled(WORLDS):
        case = Case(draw, world, draw_net(draw, mixed=False))
        draw.case(f"{expect.ranks(world)}; {describe(case.net)}; {STEPS} steps")
        case.compare(case.run(learner))


# --------------------------------------------------------------------------------------------------------- order


@check("ranks may compute in different order and leave parameters out")
def order(learner, draw):
    # Layers of one size: what was summed up in the wrong place does not even fail.
    world = 3
    net = {
        "sizes": (8, 8, 8),
        "blocks": 8,
        "dtypes": (torch.float32, torch.float32),
        "cap_bytes": 2 * (256 + 32),
    }
    case = Case(draw, world, net, late=world - 1)
    draw.case(
        f"{expect.ranks(world)}, rank {world - 1} computes its layers in the opposite order; {describe(net)}"
    )
    case.orders[world - 1] = case.orders[world - 1][::-1]
    named(learner, draw, case, "order-differs", [])

    world = draw.choice([3, 4])
    case = Case(draw, world, draw_net(draw, mixed=False), late=world - 1)
    own, everybody, *_ = draw.shuffled([n for n in case.names if n not in ("embed.weight", "top.scale")])
    lazy = draw.integer(0, world - 1)
    case.leave_out(lazy, own)
    for rank in range(world):
        case.leave_out(rank, everybody)
    draw.case(
        f"{expect.ranks(world)}; rank {lazy} does not use {own}, no rank uses {everybody}; {describe(case.net)}"
    )
    named(learner, draw, case, "unused-parameter", [everybody])


def named(learner, draw, case, name, unused):
    """Run `case` against PyTorch's own DDP. What fails only because of what is special in it has this name."""
    try:
        case.compare(case.run(learner), by_the_library(case, unused))
    except expect.Finding as finding:
        if finding.diagnosis in OTHERS_FAULT:
            raise
        plain = Case(draw, case.world, case.net, case.late)
        try:
            plain.compare(plain.run(learner))
        except expect.Finding as usual:
            if usual.diagnosis in (*OTHERS_FAULT, "raised", "died", "deadlock"):
                raise
            raise expect.Finding("result-first", usual.message) from None
        raise expect.Finding(name, finding.message) from None


def by_the_library(case, unused):
    """The gradients of DistributedDataParallel, per step: run here, on ranks of the judge's own."""
    run = ranks.run(library_gradients, case.world, case.seeds, case.orders, net=case.net, unused=unused)
    return run.outputs[0]


def library_gradients(seeds, order, net, unused):
    net = dict(net)
    cap = net.pop("cap_bytes")
    model = drive.Net(**net)
    ddp = DistributedDataParallel(model, bucket_cap_mb=cap / 2**20, find_unused_parameters=bool(unused))
    steps = []
    for seed in seeds:
        model.zero_grad()
        ddp(drive.pulls(model, seed), order).backward()
        zeros = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
        steps.append({n: zeros[n] if p.grad is None else p.grad.clone() for n, p in model.named_parameters()})
    return steps


# ------------------------------------------------------------------------------- collectives, overlap and memory


class Tower:
    """A Stack to train on: sizes, and a cap."""

    def __init__(self, draw, world, numel=(40_001, 50_001)):
        self.world, self.layers, self.numel = world, 9, draw.odd(*numel)
        self.layer_bytes = 4 * (self.numel + 64)
        self.trainable = self.layers - 1
        self.size = self.trainable * self.layer_bytes
        self.cap = draw.integer(21, 29) * self.layer_bytes // 10  # room for two layers, not for three
        self.expected = math.ceil(self.trainable / 2)  # buckets
        self.words = (
            f"{expect.ranks(world)}, {self.trainable} trainable layers, S = {expect.amount(self.size)}, "
            f"at most {expect.amount(self.cap)} in a bucket"
        )

    def run(self, learner, draw, steps, gate=0, late=-1):
        """`steps` steps, in each of which the gradients up to layer `gate` are not there before all others are."""
        later, means = [], []
        for _ in range(steps):
            pulls = [draw.tensor(self.layers, self.numel, low=0.25, high=2.0) for _ in range(self.world)]
            later += [[p[gate + 1 :].clone() for p in pulls], [p[: gate + 1].clone() for p in pulls]]
            means.append(sum(pulls) / self.world)
        run = learner.on_ranks(self.world).converse(
            "stack", later=later, says=[float], returns={"numbers": [float], "came": bool}, count_sent=True,
            steps=steps, layers=self.layers, numel=self.numel, cap_bytes=self.cap, gate=gate, late=late,
        )  # fmt: skip
        for rank, (said, output) in enumerate(zip(run.said, run.outputs, strict=True)):
            for step, numbers in enumerate([*said[2::2], output["numbers"]]):
                self.numbers_are_right(
                    numbers, means[step], f"step {step + 1}: the mean is wrong on rank {rank}"
                )
        return run

    def numbers_are_right(self, numbers, mean, message):
        """mean: of all layers' gradients."""
        want = [m[:n] for k, m in enumerate(mean) if k != self.layers - 2 for n in (self.numel, 64)]
        right = len(numbers) == len(want) and all(map(same_fingerprint, numbers, want))
        expect.that(right, "result-first", message)

    def wire(self, payload):
        return 2 * (self.world - 1) / self.world * payload


@check(
    "as many collectives as buckets, and 2(N−1)/N of the gradient per rank and step", about="communication"
)
def collectives(learner, draw):
    # So small that the messages of several collectives cannot be taken for data of one.
    tower, steps = Tower(draw, draw.choice([3, 4]), (9_001, 11_001)), 6
    draw.case(f"{tower.words}, {steps} steps")
    run = tower.run(learner, draw, steps)
    run.ops()  # compares with the kernel's count
    calls = [c for c in run.collectives[0] if c.bytes]
    each = len(calls) / steps
    not_through_one_rank(run)
    large = max((c.bytes for c in calls if c.op == "all_reduce"), default=0)
    size = expect.amount(large)
    expect.that(each > 1, "one-bucket", f"one collective of {size} per step")
    expect.that(
        each < 2 * tower.trainable,
        "one-per-parameter",
        f"{each:.0f} collectives per step for {2 * tower.trainable} parameters",
    )
    expect.at_most(large, tower.cap, "the largest collective", "cap-exceeded")
    expect.at_most(
        each, tower.expected + 1, "collectives per step", "too-many-collectives", unit="collectives"
    )
    gathered = any(c.op == "all_gather" for c in calls)
    name = "gradients-gathered" if gathered else "too-much-traffic"
    bound = steps * tower.wire(tower.size)
    for direction, counted in (("sent", run.sent()), ("received", run.received())):
        most, least = max(counted), min(counted)
        expect.at_most(most, 1.06 * bound + 100_000, f"bytes {direction} by rank {counted.index(most)}", name)
        expect.at_least(
            least, 0.94 * bound, f"bytes {direction} by rank {counted.index(least)}", "too-little-traffic"
        )


def not_through_one_rank(run):
    used = sorted({c.op for c in run.collectives[0]} & {"reduce", "broadcast", "gather", "scatter"})
    expect.that(not used, "through-one-rank", f"your collectives: {' and '.join(used)}")


@check("buckets leave before the last gradient exists, and no hook waits", about="overlap")
def overlap(learner, draw):
    tower, steps, gate = Tower(draw, 3), 2, draw.integer(0, 1)
    late = draw.integer(0, tower.world - 1)
    ready = (tower.layers - 2 - gate) * tower.layer_bytes  # of the layers above the gate one is frozen
    draw.case(
        f"{tower.words}, {steps} steps; in each the backward pass stands still when {expect.amount(ready)} of gradients exist, "
        f"and in the last one rank {late} begins its own when the others are there"
    )
    run = tower.run(learner, draw, steps, gate, late)
    not_through_one_rank(run)
    ops = {c.op for c in run.collectives[0] if c.bytes}
    # Bytes that a rank sends for one of gradients: of all collectives of these names together, and of the first of them.
    whole = tower.world - 1 if ops == {"all_gather"} else tower.wire(1)
    first = whole if len(ops) == 1 else whole / 2
    # What is ready may be short of a full bucket.
    least = 0.9 * first * (ready - tower.cap) - 50_000
    said = run.sent_when_said()
    for step in range(steps):
        sent = [[*said[rank], run.sent()[rank]][2 * step : 2 * step + 3] for rank in range(tower.world)]
        early = min(at_gate - begun for begun, at_gate, _ in sent)
        where = f"step {step + 1}: bytes that a rank had sent of them"
        if early < least:
            name = "nothing-early" if early < 0.5 * tower.layer_bytes else "late-launch"
            raise expect.Finding(
                name, f"{where}: {expect.amount(early)}; at least {expect.amount(least)} expected"
            )
        # Gradients, that is: who sends something else early has all of them still to send.
        most = max(end - begun for begun, _, end in sent)
        expect.at_most(
            most,
            1.06 * whole * tower.size + 50_000,
            f"step {step + 1}: bytes sent by a rank",
            "too-much-traffic",
        )
    expect.that(
        all(output["came"] for output in run.outputs),
        "blocking-hook",
        f"in {drive.PATIENCE_S:.0f} s they did not get through: they waited for rank {late}",
    )


@check("memory does not grow with the number of steps", about="memory")
def memory(learner, draw):
    tower, few, many = Tower(draw, 3), 2, 6
    draw.case(f"{tower.words}; {few} steps, then {many}")
    # What a machine under load adds is not there every time, and not on every rank; what is kept is.
    for last_try in (False, True):
        peaks = [min(tower.run(learner, draw, steps).peak_bytes) for steps in (few, many)]
        if peaks[1] - peaks[0] <= 1.5 * tower.size or last_try:
            break
    expect.at_most(
        peaks[1] - peaks[0],
        1.5 * tower.size,
        f"memory that {many} steps need beyond what {few} need, per rank",
        "memory-grows",
    )
