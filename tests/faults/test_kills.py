"""Kill any part of the grader at any moment: the same command goes on, and every result is there once, as undisturbed.

Each run is disturbed three times: a process that serves (a worker, the wall, the fork server or the warden behind it), one
that runs a learner's code (a room, its agent, a rank), and at last the grader itself. Then the same command again, and
again, until nobody disturbs it any more. Behind either wall. SOAK=1: about 200 kills instead of 12.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from autograder.store import read_result
from tests.changed_machine import WITHOUT_BUBBLEWRAP, root_only
from tests.faults.conftest import LEARNERS, Batch
from tests.faults.saboteur import ROOMS, SERVICES, Identity, described, identity, kill, parts, still_running

SOAK = bool(os.environ.get("SOAK"))
VOYAGES = 7 if SOAK else 1  # behind each wall
RUNS = 5 if SOAK else 2  # in each voyage: RUNS times three kills, then one run in peace
WALLS = {"bubblewrap": "", "own wall": WITHOUT_BUBBLEWRAP}


class Voyage:
    """A cohort graded by a grader that is killed again and again."""

    def __init__(self, batch: Batch, folder: Path, number: int, wall: str) -> None:
        self.batch, self.folder, self.number, self.wall = batch, folder, number, wall
        self.out = folder / "results"
        self.chance = random.Random(number)
        self.started: set[Identity] = set()
        self.killed: list[str] = []

    def disturbed_run(self, run: int) -> None:
        disturbances = [
            SERVICES[(self.number + run) % len(SERVICES)],
            ROOMS[(self.number + run) % len(ROOMS)],
        ]
        self.chance.shuffle(disturbances)
        before = self.finished()
        grader = self.batch.start(self.out, WALLS[self.wall])
        try:
            for what in disturbances:
                self._kill_one(grader, what)
            self._wait(grader, self.chance.uniform(0, 1))
            if grader.poll() is None:
                kill(grader.pid)
                self.killed.append("grader")
            printed, _ = grader.communicate(timeout=300)
        finally:
            grader.kill()
        assert grader.returncode in (0, 2, -signal.SIGKILL), printed
        assert "Traceback" not in printed, printed
        self._all_gone()
        after = self.finished()
        assert before.items() <= after.items(), "what was done before is not done again"

    def _kill_one(self, grader: subprocess.Popen[str], what: str) -> None:
        """Wait until there is such a process, then a little, and kill one of them."""
        early = what == "worker" and self.chance.random() < 0.3
        while grader.poll() is None:
            found = self._look(grader)
            if found[what] and (early or found["room"]):
                self._wait(grader, self.chance.uniform(0, 0.03 if what == "rank" else 0.3))
                found = self._look(grader)
                if found[what] and kill(self.chance.choice(found[what])):
                    self.killed.append(what)
                    return

    def _wait(self, grader: subprocess.Popen[str], seconds: float) -> None:
        end = time.monotonic() + seconds
        while grader.poll() is None and time.monotonic() < end:
            self._look(grader)
            time.sleep(0.002)

    def _look(self, grader: subprocess.Popen[str]) -> dict[str, list[int]]:
        found = parts(grader.pid)
        self.started |= {one for pids in found.values() for pid in pids if (one := identity(pid))}
        return found

    def _all_gone(self) -> None:
        end = time.monotonic() + 10
        while still_running(self.started) and time.monotonic() < end:
            time.sleep(0.02)
        left = described(still_running(self.started))
        assert not left, f"outlived a grader of which {self.killed[-3:]} were killed: {left}"

    def finished(self) -> dict[Path, int]:
        """When each result was written; whichever file can be seen is whole."""
        found = {}
        for path in self.out.glob("*/*/result.json"):
            assert read_result(path) is not None, f"half a result in {path}"
            assert path.with_name("feedback.html").read_text().rstrip().endswith("</html>")
            found[path] = path.stat().st_mtime_ns
        return found

    def results(self) -> dict[str, dict[str, Any]]:
        """Every result without the layers it was graded behind, which must be those of this wall."""
        found = self.batch.results(self.out)
        assert all(one.pop("sandbox")[0] == self.wall for one in found.values())
        return found

    def starts_anew(self) -> None:
        self.out = self.folder / f"results-after-{len(self.killed)}"


@root_only
@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("number", range(VOYAGES))
def test_a_grader_killed_again_and_again_gives_what_an_undisturbed_one_gives(
    batch: Batch, undisturbed, tmp_path: Path, number: int, wall: str, record_property
):
    wanted = {name: {k: v for k, v in one.items() if k != "sandbox"} for name, one in undisturbed.items()}
    voyage = Voyage(batch, tmp_path, number, wall)
    for run in range(RUNS):
        voyage.disturbed_run(run)
        if len(voyage.finished()) == LEARNERS:  # nothing is left to disturb
            assert voyage.results() == wanted, voyage.killed
            voyage.starts_anew()
    last = batch.start(voyage.out, WALLS[wall])
    printed, _ = last.communicate(timeout=600)
    assert last.returncode == 0, printed
    assert voyage.results() == wanted, voyage.killed
    assert batch.rows(voyage.out) == [
        (name, one["status"], one["score"]) for name, one in sorted(undisturbed.items())
    ]
    assert not list(voyage.out.rglob(".*.tmp"))
    assert len(voyage.killed) > RUNS, "hardly anything was killed"
    kinds = set(voyage.killed)
    assert "grader" in kinds and kinds & set(SERVICES) and kinds & set(ROOMS), kinds
    print(f"{len(voyage.killed)} kills: {' '.join(voyage.killed)}")
    record_property("kills", len(voyage.killed))


def test_whenever_a_writer_is_killed_its_files_are_whole(tmp_path: Path, record_property):
    """Two results are written over each other for ever; killed at any moment, one of the two is there."""
    from autograder.store import write_result
    from autograder.verdict import Result

    chance = random.Random(0)
    versions = [
        (Result(learner=name, exercise="x", status="graded"), name * 300_000, name * 200_000) for name in "ab"
    ]
    write_result(tmp_path / "a" / "x", *versions[0])
    times = 400 if SOAK else 40
    record_property("kills", times)
    seen = set()
    for _ in range(times):
        writer = os.fork()
        if writer == 0:
            try:
                while True:
                    for version in versions:
                        write_result(tmp_path / "a" / "x", *version)
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0, 0.02))
        assert kill(writer)
        os.waitpid(writer, 0)
        found = read_result(tmp_path / "a" / "x" / "result.json")
        assert found in [version[0] for version in versions]
        seen.add(found.learner)
        assert (tmp_path / "a" / "x" / "feedback.html").read_text() in [version[1] for version in versions]
        assert (tmp_path / "a" / "x" / "executed.ipynb").read_text() in [version[2] for version in versions]
    assert seen == {"a", "b"}, "no writer was killed between its first result and its last"
    write_result(tmp_path / "a" / "x", *versions[0])
    assert sorted(os.listdir(tmp_path / "a" / "x")) == ["executed.ipynb", "feedback.html", "result.json"]
