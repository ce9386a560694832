"""What surrounds an attack: a sandbox, innocents who are graded beside it, and canaries it must not find."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aboard.ranks.memory import read_status
from autograder import expect
from autograder.exercise import Course, Exercise
from autograder.feedback import as_page
from autograder.grade import Grader
from autograder.judge import Check, Judge
from autograder.sandbox.account import below, process_tree
from autograder.sandbox.host import Sandbox
from autograder.submission import Submission
from autograder.verdict import Result
from tests.attacks.attack import WRONG, Attack

COURSE = Course(Path(__file__).parents[2])
SECRET = "CANARY-" + os.urandom(8).hex()
MOST_GROWTH = 200 * 2**20  # bytes by which the grader, and the server, may grow over a whole run of attacks


def sums(learner: Any, draw: Any) -> None:
    for world in (2, 3):
        inputs = [draw.tensor(7) for _ in range(world)]
        expect.close(learner.on_ranks(world).call("ring_all_reduce", inputs).outputs, sum(inputs))


class Range:
    """A shooting range: attacks are graded on it, and it can tell what they hit."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.exercises = {e.id: e for e in COURSE.exercises()}
        self.ring = self.exercises["ring-all-reduce"]
        self.canary = folder / "canary.txt"
        self.canary.write_text(SECRET)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind("\0CANARY-of-the-grader")
        self.sandbox = Sandbox(8)
        self.grader = Grader(self.sandbox, engine, "attacked")
        # The innocents: a right and a wrong answer, judged by two calls, which takes a tenth of a second.
        _, drive = self.grader.judge_of(self.ring)
        self.innocents = Grader(self.sandbox, "fork", "innocent")
        self.innocents._judges[self.ring.folder] = (Judge(self.ring, [Check("result", "sums", "numerics", sums)]), drive)
        self.undisturbed = self.grade_innocents()
        self.processes = self.living()
        self.before = self.memory()

    def close(self) -> None:
        self.sandbox.close()
        self.server.close()
        self.abstract.close()

    def grade(self, attack: Attack) -> tuple[Result, str]:
        """The result of an attack, and all text that anybody will ever see of it."""
        exercise = self.limited(self.exercises[attack.exercise], attack.wall_s)
        path = self.folder / f"{exercise.id}.ipynb"
        text = attack.notebook(exercise).replace(b"CANARY_PORT", str(self.server.getsockname()[1]).encode())
        path.write_bytes(text.replace(b"/tmp/canary", str(self.canary).encode()))
        result, executed = self.grader.grade("mallory", exercise, path, under=self.folder)
        path.unlink()
        page = as_page(result, executed)
        return result, result.model_dump_json() + page + (str(executed) if executed is not None else "")

    def limited(self, exercise: Exercise, wall_s: float) -> Exercise:
        return replace(exercise, limits=replace(exercise.limits, wall_s=wall_s))

    def grade_innocents(self) -> list[str]:
        found = []
        for answers in (self.ring.solution(), WRONG[self.ring.id]):
            result, _ = self.innocents.grade_answers("ada", self.ring, Submission(answers=dict(answers)))
            found.append(result.model_dump_json(exclude={"resources"}))
        return found

    def living(self) -> set[int]:
        """Processes of the sandbox: the wall, the server, and whoever has not gone."""
        return set(below(self.sandbox._process.pid, process_tree()))

    def memory(self) -> dict[int, int]:
        return {pid: read_status(pid)["RssAnon"] for pid in (os.getpid(), *self.processes)}

    def outside(self) -> dict[str, Any]:
        """What an attack could leave lying about on the machine."""
        unix = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "CANARY" in line]
        shared = Path("/proc/sysvipc/shm")
        return {
            "shm": sorted(p for p in os.listdir("/dev/shm") if "CANARY" in p),
            "sysv": len(shared.read_text().splitlines()) if shared.exists() else 0,
            "unix": sorted(unix),
            "canary": self.canary.read_text(),
            "beside": sorted(p.name for p in self.folder.iterdir()),
            "cwd": sorted(os.listdir(".")),
        }

    def was_called(self) -> bool:
        try:
            self.server.accept()
            return True
        except BlockingIOError:
            return False


def _range(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    made = Range(engine, tmp_path_factory.mktemp(engine))
    yield made
    made.close()


@pytest.fixture(scope="session")
def fork_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    yield from _range("fork", tmp_path_factory)


@pytest.fixture(scope="session")
def kernel_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    yield from _range("kernel", tmp_path_factory)
