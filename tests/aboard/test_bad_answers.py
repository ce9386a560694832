"""What goes wrong in distributed programs, on real gloo ranks: each ends in words, within ten seconds.

The same mistakes as answers to exercises, with the names that the judges give them, are in the exercises' wrong/ folders:
parameters without gradients, tied weights, integer and half-precision buffers in ddp-from-scratch, more ranks than rows in
the-whole-loop and fsdp2.
"""

from __future__ import annotations

import socket
import sys
import time

import pytest
import torch
import torch.distributed as dist

from aboard import ranks


def fails(function, world=3, **more) -> ranks.RanksFailed:
    """How `function` fails. Its own time limit is far away: it must be noticed, not waited for."""
    start = time.monotonic()
    with pytest.raises(ranks.RanksFailed) as failure:
        ranks.run(function, world, timeout_s=60, **more)
    assert time.monotonic() - start < 10
    return failure.value


@pytest.mark.parametrize("other", ["all_gather", "broadcast", "reduce_scatter", "barrier"])
def test_ranks_that_call_different_collectives(other):
    def disagree():
        x = torch.ones(6)
        if dist.get_rank() != 1:
            dist.all_reduce(x)
        elif other == "all_gather":
            dist.all_gather([torch.empty(6) for _ in range(3)], x)
        elif other == "broadcast":
            dist.broadcast(x, 0)
        elif other == "reduce_scatter":
            dist.reduce_scatter_tensor(torch.empty(2), x)
        else:
            dist.barrier()
        dist.barrier()

    said = str(fails(disagree))
    assert "rank 1 waits in" in said and "rank 0 waits in all_reduce" in said and f"dist.{other}" in said


@pytest.mark.parametrize("mine, theirs", [(1000, 10), (10, 1000), (11, 10)])
def test_ranks_that_call_one_collective_with_different_sizes(mine, theirs):
    def disagree():
        x = torch.ones(mine if dist.get_rank() == 1 else theirs)
        dist.all_reduce(x)
        dist.barrier()

    found = fails(disagree)
    # gloo ends a process, or refuses, or waits; each has its words, and none is silence.
    words = {
        "died": "ranks call one collective with tensors of different sizes",
        "raised": "all_reduce",
        "deadlock": "waits in",
    }
    assert words[found.kind] in str(found)


def test_ranks_that_use_two_groups_in_different_order():
    def disagree():
        first, second = dist.new_group([0, 1]), dist.new_group([0, 1])
        order = [first, second] if dist.get_rank() == 0 else [second, first]
        for group in order if dist.get_rank() < 2 else ():
            dist.all_reduce(torch.ones(4), group=group)

    found = fails(disagree)
    assert found.kind == "deadlock"
    assert "rank 0 waits in all_reduce" in str(found) and "rank 2 has returned" in str(found)


def test_ranks_that_make_groups_in_different_order():
    def disagree():
        pairs = [[0, 1], [1, 2]] if dist.get_rank() != 2 else [[1, 2], [0, 1]]
        for pair in pairs:
            dist.new_group(pair)

    found = fails(disagree)
    assert found.kind == "deadlock" and "waits in new_group (line" in str(found)


def test_a_rank_that_leaves_with_exit():
    def leave():
        if dist.get_rank() == 1:
            sys.exit(3)
        dist.barrier()

    found = fails(leave)
    assert (found.kind, found.rank) == ("raised", 1)
    assert "SystemExit: 3 on rank 1" in str(found) and "rank 0 waits in barrier" in str(found)


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        def meet():
            if dist.get_rank() == 0:
                dist.TCPStore("127.0.0.1", port, 3, True)
            dist.barrier()

        found = fails(meet)
    assert (found.kind, found.rank) == ("raised", 0)
    assert "address already in use" in str(found) and "TCPStore" in str(found)


def test_ranks_themselves_need_no_port(monkeypatch):
    """They meet in a file: a program that has taken the usual port, and says so in the environment, disturbs nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        assert ranks.run(lambda: dist.get_rank(), 3).outputs == [0, 1, 2]


def test_one_rank_alone_may_call_everything():
    def everything():
        x, out = torch.ones(3), torch.empty(3)
        dist.all_reduce(x)
        dist.broadcast(x, 0)
        dist.all_gather_into_tensor(out, x)
        dist.reduce_scatter_tensor(out, x)
        dist.barrier()
        return float((x + out).sum())

    assert ranks.run(everything, 1).outputs == [6.0]


def test_one_rank_alone_that_waits_for_a_neighbour():
    """The right neighbour of the only rank is itself."""
    found = fails(lambda: dist.recv(torch.empty(2), (dist.get_rank() + 1) % dist.get_world_size()), 1)
    assert found.kind in ("raised", "deadlock") and "rank 0" in str(found)


def test_a_parameter_without_gradient_on_one_rank():
    def average():
        model = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
        used = model[: 1 if dist.get_rank() == 1 else 2]
        sum(layer(torch.ones(2)).sum() for layer in used).backward()
        for p in model.parameters():
            if p.grad is not None:
                dist.all_reduce(p.grad)

    found = fails(average)
    assert (
        found.kind == "deadlock" and "rank 1 has returned" in str(found) and "rank 0 waits in" in str(found)
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.float16, torch.bfloat16])
def test_buffers_of_any_dtype_can_be_sent(dtype):
    def send():
        x = torch.ones(5) * (dist.get_rank() == 0)
        x = x.to(dtype)
        dist.broadcast(x, 0)
        return x

    assert all(bool((out == 1).all()) and out.dtype == dtype for out in ranks.run(send, 3).outputs)


def test_a_mean_of_whole_numbers_is_told_by_line():
    """Averaging integer buffers like the others: the division has no place in them."""

    def mean():
        counter = torch.tensor(7)
        dist.all_reduce(counter)
        counter /= dist.get_world_size()

    found = fails(mean)
    assert found.kind == "raised" and "can't be cast" in str(found) and "counter /= " in str(found)


def test_a_collective_that_gloo_does_not_know_for_a_dtype_is_told():
    def add():
        dist.all_reduce(torch.ones(4, dtype=torch.int16))

    found = fails(add)
    assert found.kind == "raised" and "dist.all_reduce(torch.ones(4, dtype=torch.int16))" in str(found)
