"""The meters a learner cannot talk to: each test holds a solution that is right and tries to look cheaper than it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.exercise import Course, Exercise
from autograder.grade import Grader
from autograder.sandbox.host import Sandbox
from autograder.submission import Submission
from tests.small import small_ring

RING = Course(Path(__file__).parents[2]).exercise("ring-all-reduce")
# Right numbers and right traffic, and sixty megabytes that the memory check must see.
WRAPPED = """
SOLUTION
_honest = ring_all_reduce
def ring_all_reduce(tensor):
    HIDE
    return _honest(tensor)
"""


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(8) as made:
        yield made


def checks(
    sandbox: Sandbox, answer: str, before: str = "", exercise: Exercise = RING, only: set[str] | None = None
) -> dict:
    """Check → (status, diagnosis), of those in `only` or of all."""
    answers = exercise.solution()
    answers["ring"] = before + "\n" + answer.replace("SOLUTION", answers["ring"])
    grader, submission = Grader(sandbox, "fork", "meters"), Submission(answers=answers)
    result, _ = grader.grade_answers("ada", exercise, submission, only=only)
    return {check.id: (check.status, check.diagnosis) for check in result.checks}


def hide(code: str) -> str:
    return WRAPPED.replace("HIDE", code)


@pytest.mark.parametrize(
    "code",
    [
        "x = torch.ones(15_000_000)",
        "open('/dev/shm/x', 'wb').write(bytes(60_000_000))",
        "open('/scratch/x', 'wb').write(bytes(60_000_000))",
        "import mmap; f = open('/dev/shm/y', 'w+b'); f.truncate(60_000_000); m = mmap.mmap(f.fileno(), 0); m.write(bytes(60_000_000))",
        "import os, time\n    if os.fork() == 0:\n        x = torch.ones(15_000_000); time.sleep(1); os._exit(0)\n    time.sleep(0.3)",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', \"x = b'1' * 60_000_000; import time; time.sleep(0.3)\"])",
    ],
    ids=["tensor", "dev-shm", "scratch", "shared-map", "forked-child", "other-program"],
)
def test_memory_counts_wherever_it_lies(sandbox, code):
    found = checks(sandbox, hide(code), only={"memory"})  # where the numbers must be right as well
    # What an earlier call left behind is there when the measured one begins.
    assert found["memory"][1] in ("too-much-memory", "memory-held-before", "other-processes")


def test_memory_taken_before_the_call_is_a_verdict_of_its_own(sandbox):
    found = checks(sandbox, "SOLUTION", before="_pool = torch.ones(15_000_000)")
    assert found["result"][0] == found["traffic"][0] == "pass"
    assert found["memory"] == ("fail", "memory-held-before")


def test_a_small_module_imported_by_an_answer_is_no_offence(sandbox):
    found = checks(sandbox, "SOLUTION", before="import math, itertools, functools, numpy as np")
    assert {status for status, _ in found.values()} == {"pass"}


def test_talking_past_torch_distributed_is_a_verdict_of_its_own(sandbox):
    """Ranks that push bytes through sockets of their own, after a right all-reduce."""
    code = """import socket, threading
    rank, world = dist.get_rank(), dist.get_world_size()
    server = socket.create_server((f"10.77.0.{rank + 1}", 7000))
    dist.barrier()
    out = socket.create_connection((f"10.77.0.{(rank + 1) % world + 1}", 7000))
    sending = threading.Thread(target=out.sendall, args=(bytes(4_000_000),)); sending.start()
    got, left = server.accept()[0], 4_000_000
    while left: left -= len(got.recv(1 << 20))
    sending.join(); dist.barrier(); out.close(); server.close()"""
    found = checks(sandbox, hide(code), only={"traffic"})
    assert found["traffic"] == ("fail", "meters-disagree")


def test_claiming_less_than_was_sent_is_a_verdict_of_its_own(sandbox):
    """The whole tensor goes round twice, and the meter in the process is told to forget it."""
    code = """import gc
    from aboard.ranks.meter import Meter
    meter = next(o for o in gc.get_objects() if isinstance(o, Meter))
    for _ in range(2): dist.all_reduce(torch.ones(tensor.numel()))
    meter.collectives.clear()"""
    found = checks(sandbox, hide(code), only={"traffic"})
    assert found["traffic"] == ("fail", "meters-disagree")


def test_a_submission_cannot_fill_the_machines_memory(sandbox, tmp_path):
    """Each process stays within its own limit; together they are stopped."""
    exercise = small_ring(tmp_path, wall_s=40, memory_mib=700)
    code = """import os, time
    if dist.get_rank() == 0:
        for _ in range(6):
            if os.fork() == 0:
                x = torch.ones(40_000_000); time.sleep(20); os._exit(0)
        time.sleep(20)"""
    found = checks(sandbox, hide(code), exercise=exercise)
    assert found["result"] == ("fail", "out-of-memory")
    assert {status for status, _ in checks(sandbox, "SOLUTION", exercise=exercise).values()} == {"pass"}
