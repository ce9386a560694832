"""A small course and cohort, and a grader that things are done to while it works."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from rich.console import Console

from autograder.exercise import Course, Exercise
from autograder.grade_command import grade_cohort
from autograder.release import skeleton
from tests.changed_machine import on_a_machine

ROOT = Path(__file__).parents[2]
TOML = """id = "together"
title = "Together"
module = "m0"
lesson = "00-together"
number = 1
minutes = 1
skills = ["adds"]
hints = ["Add."]
[points]
alone = 1
ranks = 2
[limits]
ranks = 3
wall_s = 30
[diagnoses]
"""
EXERCISE = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---
# Together

```{code-cell} ipython3
import torch
import torch.distributed as dist
```

```{code-cell} ipython3
:answer: add

def add(x):
    ### BEGIN SOLUTION
    if dist.is_initialized():
        dist.all_reduce(x)
        return x
    return x + x
    ### END SOLUTION
```
"""
JUDGE = """import torch
from autograder import expect
from autograder.judge import check

@check("alone")
def alone(learner, draw):
    x = draw.tensor(5)
    expect.close(learner.call("add", x), x + x)

@check("ranks")
def ranks(learner, draw):
    for world in (2, 3):
        shards = [draw.tensor(7) for _ in range(world)]
        expect.close(learner.on_ranks(world).call("add", shards).outputs, sum(shards))
"""
ANSWERS = {
    "right": None,
    "wrong": "def add(x):\n    return x",
    "raises": "def add(x):\n    return y",
    "exits": "import os\nos._exit(3)",
}
LEARNERS = 20 if os.environ.get("SOAK") else 12


class Batch:
    """A cohort on disk and the command that grades it: learner n gives the n-th of ANSWERS, over and over."""

    def __init__(self, folder: Path, learners: int, jobs: int = 1) -> None:
        self.jobs = jobs
        self.folder, self.course = folder, folder / "course"
        self.submissions = folder / "submissions"
        exercise = self.course / "exercises" / "together"
        exercise.mkdir(parents=True)
        for name, text in {"exercise.toml": TOML, "exercise.md": EXERCISE, "judge.py": JUDGE}.items():
            (exercise / name).write_text(text)
        self.exercise: Exercise = Course(self.course).exercise("together")
        for number in range(learners):
            self.hand_in(f"learner-{number:02}", list(ANSWERS.values())[number % len(ANSWERS)])

    def hand_in(self, learner: str, answer: str | None) -> None:
        path = self.submissions / learner / "together.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(self.notebook(answer))

    def notebook(self, answer: str | None) -> str:
        made = skeleton(self.exercise)
        for cell in made.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") == "add":
                cell.source = answer or self.exercise.solution()["add"]
        return nbformat.writes(made)

    def command(self, out: Path) -> list[str]:
        return [
            sys.executable, "-m", "autograder.cli", "grade", str(self.submissions), "--out", str(out), "--jobs", str(self.jobs),
            "--seed", "faults", "--course", str(self.course),
        ]  # fmt: skip

    def start(self, out: Path, changed: str = "", **more: Any) -> subprocess.Popen[str]:
        """Begin to grade. `changed`: what root does to the machine's mounts first, for this grader alone."""
        line = on_a_machine(changed, self.command(out)) if changed else self.command(out)
        return subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, **more
        )

    def grade(
        self, out: Path, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Grade to the end. `before`: a program that starts the grader (prlimit, unshare …)."""
        line = [*before, *self.command(out)]
        return subprocess.run(
            line, capture_output=True, text=True, cwd=ROOT, timeout=600, env=os.environ | environment
        )

    def grade_here(self, out: Path) -> str:
        """The same in this process, when there is nothing left to grade; what was printed."""
        console = Console(file=io.StringIO(), width=200)
        grade_cohort(Course(self.course), self.submissions, out, 2, "faults", "fork", False, console)
        return console.file.getvalue()

    def results(self, out: Path) -> dict[str, dict[str, Any]]:
        """Every result.json by learner, without what each run takes of time and memory; each must be whole."""
        found = {}
        for path in sorted(out.glob("*/*/result.json")):
            result = json.loads(path.read_text())
            result.pop("resources")
            assert (path.parent / "feedback.html").read_text().rstrip().endswith("</html>")
            found[path.parts[-3]] = result
        return found

    def rows(self, out: Path) -> list[tuple[str, str, float]]:
        with sqlite3.connect(out / "results.sqlite") as connection:
            return connection.execute(
                "SELECT learner, status, score FROM submissions ORDER BY learner"
            ).fetchall()


@pytest.fixture(scope="session")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return Batch(tmp_path_factory.mktemp("faults"), LEARNERS, jobs=2)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """One learner for each of ANSWERS."""
    return Batch(tmp_path_factory.mktemp("small"), len(ANSWERS))


@pytest.fixture(scope="session")
def results_of_a_quiet_run(small: Batch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run to which nothing happened has made of `small`."""
    out = tmp_path_factory.mktemp("undisturbed") / "results"
    done = small.grade(out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def quiet(small: Batch, results_of_a_quiet_run: Path) -> dict[str, dict[str, Any]]:
    """The results of `small` when nothing happens."""
    found = small.results(results_of_a_quiet_run)
    assert [(one["status"], one["score"]) for one in found.values()] == [
        ("graded", 3), ("graded", 0), ("graded", 0), ("crashed", 0)
    ]  # fmt: skip
    return found


@pytest.fixture(scope="session")
def undisturbed(quiet: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results of `batch` when nothing happens: the same answers get the same, whoever hands them in."""
    answers = list(quiet.values())
    names = [f"learner-{number:02}" for number in range(LEARNERS)]
    return {name: answers[number % len(answers)] | {"learner": name} for number, name in enumerate(names)}
