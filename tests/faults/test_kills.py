"""Kill any part of the grader at any moment: the same command goes on, and every result is there once, as undisturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Batch, descendants, leftovers

KILLS = 200 if os.environ.get("SOAK") else 12
A_RUN_TAKES_S = 6.0
KINDS = ("grader", "worker", "wall", "sandbox")


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment(batch: Batch, undisturbed, tmp_path: Path, number: int):
    choose = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    out = tmp_path / "results"
    started: set[int] = set()
    running = batch.start(out)
    due, killed = time.monotonic() + choose.uniform(0.0, A_RUN_TAKES_S), False
    while running.poll() is None and not killed:
        found = list(descendants(running.pid))
        started |= {pid for pid, _ in found}
        targets = [running.pid] if kind == "grader" else [pid for pid, what in found if what == kind]
        if time.monotonic() > due and targets:
            try:
                os.kill(choose.choice(targets), signal.SIGKILL)
                killed = True
            except ProcessLookupError:
                continue
        time.sleep(0.005)
    printed, _ = running.communicate(timeout=120)
    if kind != "grader":
        assert running.returncode == 0, printed

    resumed = batch.grade(out)
    assert resumed.returncode == 0, resumed.stderr
    assert batch.results(out) == undisturbed
    assert [row[0] for row in batch.rows(out)] == sorted(undisturbed)
    assert not list(out.rglob("*.tmp*"))
    end = time.monotonic() + 10
    while leftovers(started) and time.monotonic() < end:
        time.sleep(0.1)
    assert not leftovers(started), "a process outlived the grader"
