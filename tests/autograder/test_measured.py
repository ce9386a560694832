"""What ranks say of their calls is compared with the messages that the kernel counted, from both sides, on real ranks."""

from __future__ import annotations

import pytest

from autograder.exercise import Limits
from autograder.expect import Finding
from autograder.learner import Learner
from autograder.sandbox.host import Sandbox
from autograder.sandbox.room_host import SandboxRoom

CELLS = """
import gc
import torch
import torch.distributed as dist
from aboard.ranks.meter import Collective, Meter

def meter():
    return next(o for o in gc.get_objects() if isinstance(o, Meter))

def each_kind(size):
    world, rank, x = dist.get_world_size(), dist.get_rank(), torch.ones(size)
    dist.barrier()
    dist.monitored_barrier()
    dist.all_reduce(x)
    dist.all_reduce_coalesced([torch.ones(size), torch.ones(2 * size)])
    for work in [dist.all_reduce(torch.ones(size), async_op=True) for _ in range(8)]: work.wait()
    dist.broadcast(x, 0)
    dist.reduce(x, world - 1)
    dist.all_gather([torch.empty(size) for _ in range(world)], x)
    dist.all_gather_into_tensor(torch.empty(size * world), x)
    dist.reduce_scatter_tensor(torch.empty(size), torch.ones(size * world))
    dist.all_to_all_single(torch.empty(size * world), torch.ones(size * world))
    dist.gather(x, [torch.empty(size) for _ in range(world)] if rank == 0 else None, 0)
    dist.scatter(x, [torch.ones(size) for _ in range(world)] if rank == 0 else None, 0)
    dist.all_gather_object([None] * world, "x" * size)
    sending = dist.isend(x, (rank + 1) % world)
    dist.recv(torch.empty(size), (rank - 1) % world)
    sending.wait()
    return 0

def in_a_group_of_its_own():
    dist.all_reduce(torch.ones(100), group=dist.new_group())
    return 0

def untold(barriers):
    dist.all_reduce(torch.ones(100))
    for _ in range(barriers): dist.barrier()
    meter().collectives[1:] = []
    return 0

def by_datagrams(count):
    import socket
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(count): line.sendto(b"here", ("10.77.0.1", 7000))
    return 0

def told_as(count, itself):
    dist.all_reduce(torch.ones(1000 * count))
    told = meter().collectives
    told[:] = [Collective("all_reduce", 4000, None, 0.0, 0.0, "", told[0].group_size) for _ in range(count)]
    if itself:  # messages that never leave the rank, as many as it likes
        import socket
        server = socket.create_server(("127.0.0.1", 7000))
        line = socket.create_connection(("127.0.0.1", 7000))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(200): line.send(b"x")
    return 0
"""
DRIVE = """
def talk(answers, sizes):
    import torch, torch.distributed as dist
    for size in sizes:
        dist.all_reduce(torch.ones(size))
        dist.barrier()
        yield [size]
    return 0
"""


@pytest.fixture(scope="module")
def learner():
    with Sandbox(8) as sandbox:
        room = SandboxRoom(sandbox, Limits(ranks=8, memory_mib=3000), DRIVE)
        room.cells = [CELLS]
        assert room.run_cell(CELLS, 20)["status"] == "ok"
        room.ready(30)
        yield Learner(room, lambda: 60.0)
        room.close()


@pytest.mark.parametrize("world", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [1, 9, 300, 20_000])
def test_honest_calls_of_every_kind_agree_with_what_the_kernel_counts(learner, world, size):
    run = learner.on_ranks(world).call("each_kind", size=size)
    assert run.ops()[:3] == ["barrier", "barrier", "all_reduce"]
    assert sum(traffic.connections for traffic in run.counters.traffic) == 0


@pytest.mark.parametrize("world", [2, 4, 8])
def test_a_group_that_is_formed_in_the_call_is_no_offence(learner, world):
    assert learner.on_ranks(world).call("in_a_group_of_its_own").ops() == ["all_reduce"]


@pytest.mark.parametrize("world", [2, 3, 8])
def test_barriers_that_are_not_told_are_seen(learner, world):
    assert learner.on_ranks(world).call("untold", barriers=0).ops() == ["all_reduce"]
    with pytest.raises(Finding, match="calls to torch.distributed.* are enough") as found:
        learner.on_ranks(world).call("untold", barriers=4).ops()
    assert found.value.diagnosis == "meters-disagree"


def test_messages_past_torch_distributed_are_seen(learner):
    with pytest.raises(Finding, match="meters-disagree|are enough"):
        learner.on_ranks(3).call("by_datagrams", count=50).ops()


@pytest.mark.parametrize("world", [2, 3, 4, 8])
@pytest.mark.parametrize("itself", [False, True])
def test_one_call_that_is_told_as_many_is_seen(learner, world, itself):
    with pytest.raises(Finding, match="are needed|are enough") as found:
        learner.on_ranks(world).call("told_as", count=4, itself=itself).ops()
    assert found.value.diagnosis == "meters-disagree"


def test_what_had_been_sent_when_a_rank_yielded_is_known_from_the_kernel(learner):
    run = learner.on_ranks(2).converse(
        "talk", [[250_000, 500_000]] * 2, later=[[0, 0], [0, 0]], says=[int], returns=int, count_sent=True
    )
    for first, second in run.sent_when_said():
        assert 1_000_000 < first < 1_100_000 and 2_000_000 < second - first < 2_100_000


def test_what_had_been_sent_on_the_way_is_not_taken_from_the_rank_itself(learner):
    run = learner.on_ranks(2).converse(
        "talk", [[250, 500]] * 2, later=[[0, 0], [0, 0]], says=[int], returns=int
    )
    with pytest.raises(ValueError, match="did not ask"):
        run.sent_when_said()
