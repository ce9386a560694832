"""What a right answer costs here: the exercise's solution is run in the place of the learner's code, who never meets it."""

from __future__ import annotations

import pytest

from autograder.errors import SandboxError
from autograder.exercise import Limits
from autograder.learner import HereAndNow, Learner
from autograder.sandbox.host import Sandbox
from autograder.sandbox.room_host import SandboxRoom

# Each looks for what the other may have left, and leaves something itself.
CELL = """
import glob, os, pathlib

def leave(name):
    found = glob.glob("/dev/shm/*") + glob.glob(os.path.expanduser("~/note*"))
    for folder in ("/dev/shm", os.path.expanduser("~")):
        pathlib.Path(folder, f"note-{name}").write_text(name)
    others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getppid(), os.getpid())]
    return [found, others, whose]

def fork():
    if os.fork() == 0:
        import time
        time.sleep(60)
        os._exit(0)
"""
HERS, RIGHT = CELL + "whose = 'hers'", CELL + "whose = 'right'"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(2) as made:
        yield made


@pytest.fixture
def room(sandbox):
    room = SandboxRoom(sandbox, Limits(), "", lambda: [RIGHT])
    room.cells = [HERS]
    yield room
    room.close()


def test_the_solution_and_her_code_find_nothing_of_each_other(room):
    learner = Learner(room, lambda: 20.0)
    learner.call("fork")
    assert learner.call("leave", "hers")[2] == "hers"
    assert learner.solved(lambda solved: solved.call("leave", "right")) == [[], [], "right"]
    assert learner.call("leave", "hers") == [[], [], "hers"]
    assert [output[2] for output in learner.on_ranks(2).call("leave", ["a", "b"]).outputs] == ["hers", "hers"]


def test_the_solution_cannot_be_called_later(room):
    kept = Learner(room, lambda: 20.0).solved(lambda solved: solved.on_ranks(2))
    with pytest.raises(RuntimeError, match="in `solved` only"):
        kept.call("leave", ["a", "b"])


def test_what_the_solution_takes_is_not_on_her_account(room):
    learner = Learner(room, lambda: 20.0)
    room.solution = lambda: ["def busy():\n    import time\n    while time.process_time() < 2: pass"]
    learner.solved(lambda solved: solved.call("busy"))
    room.close()
    assert room.cpu_s < 1


def test_a_solution_that_fails_is_nobodys_mistake(room):
    room.solution = lambda: ["def leave(name):\n    raise ArithmeticError(name)"]
    with pytest.raises(SandboxError, match="the solution could not be measured: .*ArithmeticError"):
        Learner(room, lambda: 20.0).solved(lambda solved: solved.call("leave", "right"))


def test_on_her_own_machine_there_is_no_solution():
    learner = Learner(HereAndNow({"whose": "hers"}, {}), lambda: 20.0, local=True)
    assert learner.solved(lambda solved: solved.call("leave", "right")) is None
