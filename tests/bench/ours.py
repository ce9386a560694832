"""The work as a course of ours, graded by the command line a trainer uses, in the sandbox."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat

from autograder.exercise import Exercise, load_exercise
from autograder.release import skeleton
from tests.bench.measure import Cost, Failed, cost
from tests.bench.work import Notebook

NAME = "autograder"


def write_course(root: Path, notebooks: Iterable[Notebook]) -> list[Exercise]:
    """A course with one exercise for each of `notebooks`."""
    return [_write_exercise(root / "exercises" / n.id, i + 1, n) for i, n in enumerate(notebooks)]


def _write_exercise(folder: Path, number: int, notebook: Notebook) -> Exercise:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "exercise.toml").write_text(f"""id = "{notebook.id}"
title = "{notebook.title}"
module = "m0"
lesson = "00-bench"
number = {number}
minutes = 1
skills = ["is quick"]
hints = ["Read the statement again."]
[points]
result = 1
[limits]
ranks = {notebook.ranks}
[diagnoses]
""")
    given = f"```{{code-cell}} ipython3\n{notebook.given}\n```\n" if notebook.given else ""
    (folder / "exercise.md").write_text(f"""---
kernelspec: {{name: python3, display_name: Python 3, language: python}}
---
# {notebook.title}

{given}
```{{code-cell}} ipython3
:answer: answer

{notebook.signature}
    ### BEGIN SOLUTION
    {notebook.body}
    ### END SOLUTION
```
""")
    head = "from autograder import expect\nfrom autograder.judge import check\n"
    (folder / "judge.py").write_text(head + notebook.judge)
    return load_exercise(folder)


def solved(exercise: Exercise) -> str:
    """The released notebook with the solution in its answer cells, as a learner hands it in."""
    notebook = skeleton(exercise)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = exercise.solution().get(name, cell.source)
    return nbformat.writes(notebook)


class Ours:
    """One piece of work as a course in `folder`."""

    def __init__(self, folder: Path, notebooks: Iterable[Notebook]) -> None:
        self.folder = folder
        exercises = write_course(folder / "course", notebooks)
        self.texts = {exercise.id: solved(exercise) for exercise in exercises}

    def grade(self, count: int, jobs: int) -> Cost:
        """Grade `count` submissions. Failed when one of them does not get full marks."""
        submissions, out = self.folder / "submissions", self.folder / "results"
        for i in range(count):
            learner = submissions / f"learner-{i:05}"
            learner.mkdir(parents=True)
            for name, text in self.texts.items():
                (learner / f"{name}.ipynb").write_text(text)
        try:
            found = cost(
                [str(Path(sys.executable).parent / "autograder"), "grade", str(submissions), "--out", str(out),
                 "--jobs", str(jobs), "--course", str(self.folder / "course")]
            )  # fmt: skip
            results = [json.loads(path.read_text()) for path in out.glob("*/*/result.json")]
            full = sum(result["score"] == result["max_score"] for result in results)
            if full != count * len(self.texts):
                raise Failed(f"autograder gave full marks to {full} of {count * len(self.texts)} notebooks")
            return found
        finally:
            shutil.rmtree(submissions)
            shutil.rmtree(out, ignore_errors=True)
