"""Judge of "Ring all-reduce from send and recv"."""

import torch

from aboard.ranks.fingerprint import same_fingerprint
from autograder import expect
from autograder.judge import check

WORLDS = (1, 2, 3, 4, 8)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64)


@check("chunks cover any size once and are balanced")
def chunks(learner, draw):
    cases = [(draw.odd(5, 5000), draw.integer(2, 9)), (draw.integer(1, 3), 8), (840, draw.choice([3, 4, 8]))]
    for numel, world in cases:
        draw.case(f"chunk_bounds({numel}, {world})")
        bounds = learner.call("chunk_bounds", numel, world)
        expect.that(
            isinstance(bounds, list) and all(isinstance(b, list | tuple) and len(b) == 2 for b in bounds)
            and all(type(edge) is int for b in bounds for edge in b),
            "wrong-type", f"chunk_bounds returned {str(bounds)[:80]}; it should return a list of pairs of whole numbers",
        )  # fmt: skip
        expect.that(len(bounds) == world, "wrong-length", f"{len(bounds)} chunks for {world} ranks")
        starts, stops = [b[0] for b in bounds], [b[1] for b in bounds]
        covered = starts == [0, *stops[:-1]] and stops[-1] == numel and all(a <= b for a, b in bounds)
        expect.that(covered, "chunks-do-not-cover", f"yours: {bounds}")
        sizes = [b - a for a, b in bounds]
        expect.that(max(sizes) - min(sizes) <= 1, "chunks-unbalanced", f"yours have {sizes} elements")


@check("the sum arrives on every rank")
def result(learner, draw):
    dtypes = draw.shuffled(DTYPES)
    for i, world in enumerate(WORLDS):
        shape = (draw.uneven(world + 1, 4099, world),)
        if world == 3:  # a matrix, whose rows and columns cannot be shared evenly either
            shape = (draw.uneven(2, 7, world), draw.uneven(3, 600, world))
        sum_arrives(learner, draw, world, shape, dtypes[i % len(dtypes)])
    sum_arrives(learner, draw, 4, (draw.integer(1, 3),), torch.float32)


def sum_arrives(learner, draw, world, shape, dtype):
    draw.case(f"{expect.ranks(world)}, {str(dtype).removeprefix('torch.')}, shape {shape}")
    inputs = [draw.tensor(*shape, dtype=dtype, low=-50, high=50) for _ in range(world)]
    run = learner.on_ranks(world).call("ring_all_reduce", inputs)
    total = sum(x.double() for x in inputs)
    left = [(r - 1) % world for r in range(world)]
    right = [(r + 1) % world for r in range(world)]
    likely = {
        "nothing-arrived": inputs,
        "divided": total / world,
        "only-your-neighbour": (
            [inputs[r].double() + inputs[left[r]].double() for r in range(world)],
            [inputs[r].double() + inputs[right[r]].double() for r in range(world)],
            [inputs[r].double() + inputs[r ^ 1 if r ^ 1 < world else r].double() for r in range(world)],
            # The neighbour's tensor again and again: what arrived was never sent on.
            [inputs[r].double() + (world - 1) * inputs[left[r]].double() for r in range(world)],
        ),
        "overwritten": tuple(inputs[r] for r in range(world)),
    }
    expect_sum(run.outputs, inputs, total, world, likely)


def expect_sum(outputs, inputs, total, world, likely):
    try:
        expect.close(outputs, total.to(inputs[0].dtype), "the sum", likely, terms=world)
    except expect.Finding as finding:
        if finding.diagnosis != "wrong-values":
            raise
        raise expect.Finding(by_pattern(outputs, inputs, total, world), finding.message) from None


def by_pattern(outputs, inputs, total, world):
    """Name the mistake from *where* the result is wrong, element by element."""
    total = total.reshape(-1)
    mine = torch.stack([o.double().reshape(-1) for o in outputs])
    tolerance = 0.03 * total.abs().mean() + 1e-9
    right = (mine - total).abs() < tolerance
    numel, tail = total.numel(), total.numel() % world
    if tail and bool(right[:, : numel - tail].all()):
        return "tail-lost"
    every = torch.stack([x.double().reshape(-1) for x in inputs])
    copied = ((mine.unsqueeze(1) - every.unsqueeze(0)).abs() < tolerance).any(1)
    if world > 1 and bool((copied | right).all()) and bool(right.float().mean() < 0.1):
        return "overwritten"
    somewhere = right.any(0)
    if world > 1 and bool(somewhere.float().mean() > 0.9) and not bool(right.all(0).float().mean() > 0.5):
        return "only-reduce-scatter"
    return "wrong-values"


@check("every rank sends and receives 2(N−1)/N of the tensor", about="communication")
def traffic(learner, draw):
    for world in draw.shuffled([3, 4, 5]):
        numel = draw.odd(1_400_000, 1_800_000)
        size = 2 * numel
        draw.case(f"{expect.ranks(world)}, int16, {numel:,} elements: S = {expect.amount(size)}")
        # Whole numbers of the full range: gloo's own all_reduce does not know this dtype, and what would make room for
        # its sums in another one shows as more bytes.
        inputs = [draw.tensor(numel, dtype=torch.int16, low=-(2**15), high=2**15) for _ in range(world)]
        run = right_sum(learner, inputs, sum(x.long() for x in inputs).to(torch.int16))
        point_to_point_only(run)
        bound = 2 * (world - 1) / world * size
        sent, received = run.sent(), run.received()
        for direction, counted in (("sent", sent), ("received", received)):
            most, least = max(counted), min(counted)
            name = "root-does-all" if least < 0.6 * most else "whole-tensor-travels"
            busiest = counted.index(most)
            expect.at_most(most, 1.06 * bound + 100_000, f"bytes {direction} by rank {busiest}", name)
            expect.at_least(
                least, 0.97 * bound, f"bytes {direction} by rank {counted.index(least)}", "too-little-traffic"
            )


def point_to_point_only(run):
    used = {c.op for rank in run.collectives for c in rank} - {"send", "recv", "barrier"}
    expect.that(not used, "used-a-collective", f"your code called {', '.join(sorted(used))}")


def right_sum(learner, inputs, total):
    """Run the ring on `inputs`; its result must be `total` before its cost counts."""
    crew = learner.on_ranks(len(inputs))
    try:
        run = crew.drive("ring_in_short", inputs, returns=float)
    except expect.Finding as finding:
        if finding.diagnosis == "raised":
            # A collective of the library refuses this dtype: with another one it shows itself.
            point_to_point_only(crew.drive("ring_in_short", [torch.ones(8)] * len(inputs)))
        raise
    wrong = [r for r, found in enumerate(run.outputs) if not same_fingerprint(found, total)]
    expect.that(not wrong, "result-first", f"the sum is wrong on ranks {wrong}")
    return run


@check("a rank needs room for its tensor and a chunk, however many ranks there are", about="memory")
def memory(learner, draw):
    world, numel = 6, draw.odd(1_000_000, 1_100_000)
    size = 4 * numel
    draw.case(f"{expect.ranks(world)}, int32, {numel:,} elements: S = {expect.amount(size)}")
    # Whole numbers, so that one element that is wrong shows in the fingerprint.
    inputs = [draw.tensor(numel, dtype=torch.int32, low=-100_000, high=100_000) for _ in range(world)]
    run = right_sum(learner, inputs, sum(inputs))
    # The result, a temporary or two, and what gloo keeps of what is on its way. Keeping what arrives takes 6 S and more.
    expect.at_most(max(run.peak_bytes), 5 * size, "memory added by one rank", "too-much-memory")
