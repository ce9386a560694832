"""Functions on real gloo ranks: what comes back, what is counted, and what is said when it goes wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.tensor  # here once: it takes ranks that import it together seconds, which are no deadlock's

from aboard import ranks

WORLDS = (1, 2, 3, 4, 8)


def children() -> set[str]:
    me = os.getpid()
    return set(Path(f"/proc/{me}/task/{me}/children").read_text().split())


@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_gets_its_own_inputs_and_only_those(world):
    def mine(secret, common):
        return dist.get_rank(), dist.get_world_size(), secret, common

    before = children()  # other tests in this process may keep servers of their own
    run = ranks.run(mine, world, [f"secret {r}" for r in range(world)], common="for all")
    assert run.outputs == [(r, world, f"secret {r}", "for all") for r in range(world)]
    assert children() <= before


def test_collectives_are_counted_under_whatever_name_they_were_imported():
    from torch.distributed import all_reduce as renamed

    def work(x):
        renamed(x)
        if dist.get_rank() == 0:
            dist.send(x, 1)
        elif dist.get_rank() == 1:
            dist.recv(x, 0)
        return x

    run = ranks.run(work, 3, [torch.ones(10)] * 3)
    assert [run.ops(r) for r in range(3)] == [["all_reduce", "send"], ["all_reduce", "recv"], ["all_reduce"]]
    first, second = run.collectives[0]
    assert (first.bytes, first.group_size, second.peer) == (40, 3, 1)
    assert "renamed(x)" in first.line and first.end >= first.start
    assert run.payload_bytes("send") == [40, 0, 0]


def gather_a_sharded_tensor(everywhere=True):
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    sharded = distribute_tensor(torch.arange(12.0), mesh, [Shard(0)])
    if everywhere or dist.get_rank() == 0:
        return sharded.full_tensor()
    return None


def test_what_a_dtensor_says_is_counted_too():
    run = ranks.run(gather_a_sharded_tensor, 3)
    assert all(torch.equal(out, torch.arange(12.0)) for out in run.outputs)
    gathers = [c for c in run.collectives[1] if c.op == "all_gather"]
    assert [(c.bytes, c.group_size) for c in gathers] == [(48, 3)]
    assert gathers[0].end is not None and "full_tensor" in gathers[0].line


def test_a_sharded_tensor_gathered_on_one_rank_only_is_a_deadlock():
    found = failure(gather_a_sharded_tensor, everywhere=False)
    assert found.kind == "deadlock"
    assert "rank 0 waits in all_gather" in str(found) and "full_tensor" in str(found)


@pytest.mark.parametrize("world", WORLDS)
def test_reduce_scatter_gives_each_rank_its_part(world):
    def scatter(x):
        part = torch.empty(x.numel() // dist.get_world_size())
        dist.reduce_scatter_tensor(part, x)
        return part

    x = torch.arange(8.0 * world)
    run = ranks.run(scatter, world, [x] * world)
    assert torch.equal(torch.cat(run.outputs), x * world)


def test_reduce_scatter_takes_uneven_parts_and_other_operations():
    def scatter(x):
        part = torch.empty(3 if dist.get_rank() == 1 else 2)
        work = dist.reduce_scatter(part, list(x.split([2, 3, 2])), op=dist.ReduceOp.MAX, async_op=True)
        work.wait()
        return part

    run = ranks.run(scatter, 3, [torch.arange(7.0) * (r + 1) for r in range(3)])
    assert torch.equal(torch.cat(run.outputs), torch.arange(7.0) * 3)


def test_memory_is_what_the_rank_added():
    def allocate(elements):
        block = torch.ones(elements)
        return float(block[0])

    # More than malloc ever takes from blocks that were freed before in this process: above 32 MiB it asks the kernel.
    run = ranks.run(allocate, 2, [12 * 2**20, 1])
    # The kernel keeps its counters per processor and adds them up now and then: a few dozen pages may be missing.
    assert 47 * 2**20 <= run.peak_bytes[0] < 52 * 2**20
    assert run.peak_bytes[1] < 2 * 2**20


def failure(function, world=3, timeout_s=120.0, **more) -> ranks.RanksFailed:
    """What ends the call, and with it every rank; but for a time limit, long before the time limit."""
    start, before = time.monotonic(), children()
    with pytest.raises(ranks.RanksFailed) as caught:
        ranks.run(function, world, timeout_s=timeout_s, **more)
    assert children() <= before
    assert caught.value.kind == "timeout" or time.monotonic() - start < timeout_s / 2
    return caught.value


def test_exact_memory_counts_what_is_used_whatever_was_freed_before():
    freed = [torch.ones(250_000) for _ in range(50)]  # free in this process, and in what is forked from it
    del freed

    def comes_and_goes(mb):
        ranks.exact_memory()
        for _ in range(5):
            parts = [torch.ones(50_000) for _ in range(5 * mb)]
            del parts
        return mb

    peaks = [ranks.run(comes_and_goes, 2, mb=mb).peak_bytes for mb in (4, 20)]
    grown = [b - a for a, b in zip(*peaks, strict=True)]
    assert all(abs(g - 16e6) < 1e6 for g in grown), grown


def test_a_deadlock_is_told_within_seconds_by_rank_operation_and_line():
    def all_wait():
        dist.recv(torch.empty(3), (dist.get_rank() + 1) % 3)

    found = failure(all_wait)
    assert found.kind == "deadlock"
    assert "rank 0 waits in recv from rank 1" in str(found) and "dist.recv(torch.empty(3)" in str(found)


def test_a_rank_that_leaves_out_a_collective_is_told():
    def skip():
        if dist.get_rank() != 1:
            dist.barrier()

    found = failure(skip)
    assert found.kind == "deadlock"
    assert "rank 1 has returned" in str(found) and "rank 2 waits in barrier" in str(found)


def test_the_rank_that_raised_is_named_not_those_that_wait_for_it():
    def one_raises():
        if dist.get_rank() == 2:
            raise ValueError("no such thing")
        dist.barrier()

    found = failure(one_raises)
    assert (found.kind, found.rank) == ("raised", 2)
    assert "ValueError: no such thing" in str(found) and "rank 0 waits in barrier" in str(found)


def test_an_index_out_of_range_is_an_error_of_the_program_not_a_missing_function():
    with pytest.raises(ranks.RanksFailed) as failure:
        ranks.run(lambda: [1, 2][dist.get_rank() + 1], 2)
    assert failure.value.kind == "raised" and "IndexError" in str(failure.value)


def test_a_rank_that_exits_is_told():
    found = failure(lambda: os._exit(0) if dist.get_rank() == 1 else dist.barrier())
    assert (found.kind, found.rank) == ("died", 1)


def test_work_without_end_meets_the_time_limit():
    def loop():
        while True:
            pass

    found = failure(loop, 2, timeout_s=2.0)
    assert found.kind == "timeout" and "still computing" in str(found)


def test_a_wait_inside_distributed_data_parallel_is_named_as_a_deadlock():
    """Its reducer calls collectives from C++, which no meter sees: in the second step it agrees on the buckets."""

    def one_rank_leaves_out_a_step():
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
        total = torch.zeros(1)
        for step in range(3):
            if not (step == 1 and dist.get_rank() == 1):
                model(torch.ones(2, 3)).sum().backward()
            dist.all_reduce(total)

    found = failure(one_rank_leaves_out_a_step)
    assert found.kind == "deadlock"
    assert "rank 0 waits in DistributedDataParallel (line" in str(
        found
    ) and "rank 1 waits in all_reduce" in str(found)


def test_a_rank_that_sleeps_is_waited_for():
    def sleep():
        if dist.get_rank() == 0:
            time.sleep(3)
        dist.barrier()
        return dist.get_rank()

    assert ranks.run(sleep, 2, timeout_s=20).outputs == [0, 1]


def test_long_computation_on_one_rank_is_no_deadlock():
    def one_is_slow():
        if dist.get_rank() == 0:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                pass
        dist.barrier()
        return 1

    assert ranks.run(one_is_slow, 2).outputs == [1, 1]


def test_what_cannot_be_returned_is_named():
    found = failure(lambda: object())
    assert found.kind == "unsendable" and "object" in str(found)


def test_wrong_numbers_of_ranks_or_inputs_are_refused():
    with pytest.raises(ValueError, match="world_size"):
        ranks.run(print, 0)
    with pytest.raises(ValueError, match="2 items for 3 ranks"):
        ranks.run(print, 3, [1, 2])


def test_the_timeline_says_in_words_what_it_shows():
    run = ranks.run(lambda: dist.barrier(), 2)
    svg = run.timeline("two ranks")._repr_svg_()
    assert "<title>two ranks</title>" in svg and "each: 1 barrier" in svg
