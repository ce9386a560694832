"""Judge of "Hangs and stragglers".

The runs with a fault are made here, by drive.py on ranks of its own: nothing of the learner's has a hand in them. Her
`diagnose` sees only what the ranks wrote.
"""

import importlib.util
from pathlib import Path

import torch

from autograder import expect
from autograder.errors import UserError
from autograder.expect import Finding
from autograder.judge import check

_spec = importlib.util.spec_from_file_location("drive_of_hangs", Path(__file__).with_name("drive.py"))
drive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drive)

WORLDS = (2, 3, 4)
# How many times slower a run is made each time it did not show what was planted in it
PACES = (1, 1, 3, 9, 27)
SAID = ({"kind": str, "rank": int, "operation": str, "line": int}, type(None))


def recorded(draw, kinds):
    """For each pair (kind, what is fixed) a case and its report. A run that does not show what was planted in it is made again,
    slower: on a busy machine every rank is late at times, by as much as the machine makes it wait."""
    found = {}
    for pace in PACES:
        left = [number for number in range(len(kinds)) if number not in found]
        cases = [drive.plan(kinds[number][0], draw.seed(), **kinds[number][1], pace=pace) for number in left]
        for number, case, (report, clear) in zip(left, cases, drive.record(cases), strict=True):
            if clear:
                found[number] = case, report
    if len(found) < len(kinds):
        raise UserError(
            "This machine is too busy to record runs of four ranks; do this again when it is not."
        )
    return [found[number] for number in range(len(kinds))]


def named(learner, draw, kinds, judge_one):
    runs = recorded(draw, kinds)
    said = learner.drive("name_all", [report for _, report in runs])
    expect.that(
        isinstance(said, list) and len(said) == len(runs),
        "answered-in-its-place",
        "other answers than asked for",
    )
    for (case, report), one in zip(runs, said, strict=True):
        draw.case(words(report))
        if one is not None and not (
            isinstance(one, dict) and one.keys() == {"kind", "rank", "operation", "line"}
            and type(one["rank"]) is int and type(one["line"]) is int
        ):  # fmt: skip
            raise Finding("no-form", f"yours: {str(one)[:200]}")
        judge_one(case, report, one)


def words(report):
    """What the ranks left, in a line."""
    parts = []
    for one in report["ranks"]:
        last = one["ops"][-1] if one["ops"] else None
        at = f", {'in' if last['end'] is None else 'after'} #{last['number']} {last['op']}" if last else ""
        parts.append(f"rank {one['rank']} {one['state']} at line {one['line']}{at}")
    return "; ".join(parts)


@check("hangs are named: kind, rank, operation, line", about="communication")
def hangs(learner, draw):
    # Every draw has the cases that tell a rule from one that often fits: rank 0 guilty, a branch with and without a
    # barrier, connections that close and others that stay.
    kinds = [("branch", {"barrier": True}), ("branch", {"barrier": False}), ("order", {}), ("shapes", {})]
    at = draw.integer(0, 3)
    kinds[at] = kinds[at][0], kinds[at][1] | {"rank": 0}
    stays = draw.choice(["left", "raised"])
    kinds += [("left", {"exits": True}), ("raised", {"exits": True}), (stays, {"exits": False})]
    kinds = draw.shuffled(kinds)
    named(learner, draw, kinds, one_hang)


def one_hang(case, report, said):
    truth = case["truth"]
    if said == truth:
        return
    expect.that(said is not None, "missed", "yours: None")
    yours = f"yours: {said['kind']}, rank {said['rank']}, {said['operation']}, line {said['line']}"
    everyone = report["ranks"]
    if said["rank"] != truth["rank"]:
        blamed = next((one for one in everyone if one["rank"] == said["rank"]), None)
        after = blamed and blamed["state"] == "raised" and truth["kind"] in ("left", "raised")
        raise Finding("consequence" if after else "blames-the-waiting", yours)
    if said["kind"] != truth["kind"]:
        pair = {said["kind"], truth["kind"]}
        if truth["kind"] == "shapes":
            raise Finding("sizes-differ", yours)
        if pair == {"branch", "order"}:
            raise Finding("branch-not-order" if truth["kind"] == "branch" else "order-not-branch", yours)
        raise Finding("left-or-raised" if pair == {"left", "raised"} else "wrong-kind", yours)
    waiting = [one for one in everyone if one["rank"] != truth["rank"]]
    if said["operation"] != truth["operation"]:
        mine = everyone[truth["rank"]]["ops"]
        ended = [op for op in mine if op["end"] is not None]
        raise Finding(
            "last-that-ended" if ended and ended[-1]["op"] == said["operation"] else "wrong-operation", yours
        )
    if said["line"] != truth["line"]:
        waits = any(op["end"] is None and op["line"] == said["line"] for one in waiting for op in one["ops"])
        raise Finding("line-of-the-waiting" if waits else "wrong-line", yours)


@check("a slow rank is named, and nobody when nothing is wrong", about="overlap")
def stragglers(learner, draw):
    named(
        learner, draw, draw.shuffled([("straggler", {}), ("straggler", {}), ("healthy", {})]), one_straggler
    )


def one_straggler(case, report, said):
    truth = case["truth"]
    if said == truth:
        return
    expect.that(said is not None, "missed", "yours: None")
    yours = f"yours: {said['kind']}, rank {said['rank']}, {said['operation']}, line {said['line']}"
    if said["rank"] in (case["warm"], case["finisher"]) and said["kind"] == "straggler":
        raise Finding("mean-not-usual" if said["rank"] == case["warm"] else "total-time", yours)
    expect.that(truth is not None, "false-alarm", yours)
    if said["kind"] != "straggler":
        raise Finding("wrong-kind", yours)
    expect.that(said["rank"] == truth["rank"], "blames-the-waiting", yours)
    expect.that(said["operation"] == truth["operation"], "wrong-operation", yours)
    expect.that(said["line"] == truth["line"], "wrong-line", yours)


# --- the three functions

FEW = (3, 40)  # elements of a tensor
# So many that gloo sends the same number of messages for every all-reduce: then the kernel's count of messages leaves no room
# for a call that was not told.
MANY = (201, 400)


def steps_of(draw, world, elements):
    every = draw.integer(2, 3)
    count, size = every * draw.integer(2, 3) + 1, draw.odd(*elements)
    return every, [[draw.tensor(size) for _ in range(count)] for _ in range(world)]


def tensors_of(draw, world, alike, elements):
    names = draw.shuffled(["embed", "query", "key", "value", "mlp", "head"])[: draw.integer(3, 5)]
    sizes = {name: elements[0] + (9 if alike else 2 + 3 * i) for i, name in enumerate(names)}
    orders = [names[r % len(names) :] + names[: r % len(names)] for r in range(world)]
    return [{name: draw.tensor(sizes[name]) for name in order} for order in orders]


def batches_of(draw, world, elements):
    size = draw.odd(*elements)
    counts = draw.shuffled([0, 5, 2, 3][:world])
    return size, [[draw.tensor(size) for _ in range(count)] for count in counts]


def mean(tensors):
    return (sum(one.double() for one in tensors) / len(tensors)).float()


def hung(learner, run, hang):
    """`run()`, with a hang's own name. What hangs with a timeout in the text was given more time."""
    try:
        return run()
    except Finding as finding:
        if finding.diagnosis not in ("deadlock", "died"):
            raise
        longer = "timeout" in learner.program()
        raise Finding("longer-timeout" if longer else hang, finding.message) from None


def trains(learner, draw, world, elements=FEW):
    every, values = steps_of(draw, world, elements)
    draw.case(f"train_and_save on {expect.ranks(world)}, {len(values[0])} steps, saved after every {every}")
    run = hung(
        learner,
        lambda: learner.on_ranks(world).drive(
            "train", values, every=every, returns={"total": torch.Tensor, "saved": [torch.Tensor]}
        ),
        "barrier-in-branch",
    )
    means = [mean([rank[step] for rank in values]) for step in range(len(values[0]))]
    sums = [sum(means[: step + 1]) for step in range(len(means))]
    for one in run.outputs:
        expect.close(one["total"], sums[-1], "the total", terms=100)
    saved = [one["saved"] for one in run.outputs]
    want = sums[every - 1 :: every]
    expect.that(
        len(saved[0]) == len(want) and not any(saved[1:]),
        "saved-elsewhere",
        f"saved by the ranks: {', '.join(str(len(s)) for s in saved)} times",
    )
    for got, right in zip(saved[0], want, strict=True):
        expect.close(got, right, "what was saved", terms=100)
    return run, len(values[0]), every


def averages(learner, draw, world, alike, elements=FEW):
    tensors = tensors_of(draw, world, alike, elements)
    draw.case(
        f"mean_of_each on {expect.ranks(world)}, {len(tensors[0])} tensors of {'one size' if alike else 'different sizes'}"
    )
    run = hung(learner, lambda: learner.on_ranks(world).call("mean_of_each", tensors), "order-differs")
    for rank, got in enumerate(run.outputs):
        expect.that(
            isinstance(got, dict) and got.keys() == tensors[0].keys(),
            "wrong-type",
            f"rank {rank} does not return a dict with the same names",
        )
        for name in got:
            right = mean([one[name] for one in tensors])
            try:
                expect.close(got[name], right, f"{name!r} on rank {rank}", terms=100)
            except Finding as finding:
                raise Finding(
                    "order-differs"
                    if finding.diagnosis in ("wrong-values", "wrong-shape")
                    else finding.diagnosis,
                    finding.message,
                ) from None
    return run, len(tensors[0])


def walks(learner, draw, world, elements=FEW):
    size, batches = batches_of(draw, world, elements)
    counts = [len(one) for one in batches]
    draw.case(f"mean_per_step on {expect.ranks(world)} with {', '.join(map(str, counts))} batches")
    run = hung(
        learner, lambda: learner.on_ranks(world).call("mean_per_step", batches, size=size), "leaves-early"
    )
    having = [[one[step] for one in batches if step < len(one)] for step in range(max(counts))]
    for rank, got in enumerate(run.outputs):
        expect.that(isinstance(got, list), "wrong-type", f"rank {rank} does not return a list")
        if len(got) == min(counts) < max(counts):
            raise Finding("batches-lost", f"{len(got)} means")
        expect.that(
            len(got) == len(having), "wrong-length", f"rank {rank} has {expect.count(len(got), 'mean')}"
        )
        for step, one in enumerate(got):
            expect.close(
                one,
                mean(having[step]),
                f"the mean of step {step} on rank {rank}",
                {"divided-by-world": sum(having[step]) / world},
                terms=100,
            )
    return run, max(counts)


@check("the three functions end, with the right numbers, on 2, 3 and 4 ranks")
def mended(learner, draw):
    for world in WORLDS:
        trains(learner, draw, world)
    for world in WORLDS:
        averages(learner, draw, world, alike=world == 3)
    for world in WORLDS:
        walks(learner, draw, world)


@check("they call no more collectives than needed", about="communication")
def cost(learner, draw):
    try:
        trained, steps, every = trains(learner, draw, 3, MANY)
        averaged, names = averages(learner, draw, 4, alike=False, elements=MANY)
        walked, longest = walks(learner, draw, 3, MANY)
    except Finding as finding:
        if finding.diagnosis == "not-done":
            raise
        raise Finding("result-first", finding.message) from None
    for run, name in ((trained, "train_and_save"), (averaged, "mean_of_each"), (walked, "mean_per_step")):
        draw.case(name)
        made = sum(traffic.connections for traffic in run.counters.traffic or [])
        expect.that(
            not made,
            "more-collectives",
            f"the ranks made connections, {made} ends in all: to form another group is a meeting, too",
        )
    for rank in range(3):
        ops = trained.ops(rank)
        expected = [
            op for step in range(steps) for op in ["all_reduce"] + ["barrier"] * ((step + 1) % every == 0)
        ]
        draw.case(f"train_and_save, {steps} steps, saved after every {every}, rank {rank}")
        barriers, saves = ops.count("barrier"), expected.count("barrier")
        expect.that(
            barriers <= saves, "barrier-everywhere", f"{barriers} barriers for {saves} times that it is saved"
        )
        expect.at_most(len(ops) - barriers, steps, "other collectives", "more-collectives", unit="calls")
        expect.that(ops == expected, "no-barrier", f"yours: {', '.join(ops)}")
    for run, most, name in ((averaged, names, "mean_of_each"), (walked, longest + 1, "mean_per_step")):
        for rank in range(run.world_size):
            ops = run.ops(rank)
            draw.case(f"{name}, rank {rank}")
            expect.that(
                len(ops) <= most,
                "barrier-everywhere" if "barrier" in ops else "more-collectives",
                f"{len(ops)} calls, {most} are enough: {', '.join(ops)}",
            )
