"""`make bench`: how long grading takes, beside stock papermill in the same run on the same machine.

    python -m tests.bench [--submissions N]

Prints a table and writes build/bench.json. Ratios are what carries over to another machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat

from autograder.check import check_namespace
from autograder.exercise import Course, Exercise, load_exercise
from autograder.feedback import as_page
from autograder.grade import Grader
from autograder.release import skeleton
from autograder.sandbox.host import Sandbox
from autograder.store import write_result

ROOT = Path(__file__).parents[1]

TRIVIAL = {
    "exercise.toml": """id = "trivial"
title = "Trivial"
module = "m0"
lesson = "00-trivial"
number = 1
minutes = 1
skills = ["adds"]
hints = ["Add."]
[points]
adds = 1
[limits]
ranks = 1
[diagnoses]
""",
    "exercise.md": """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---
# Trivial

```{code-cell} ipython3
:answer: add

def add(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION
```
""",
    "judge.py": """from autograder import expect
from autograder.judge import check

@check("adds two numbers")
def adds(learner, draw):
    a, b = draw.integer(0, 99), draw.integer(0, 99)
    expect.close(learner.call("add", a, b), a + b)
""",
}


def seconds(function: Callable[[], object], times: int) -> float:
    """Median wall seconds of `function` over `times` runs."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def solved(exercise: Exercise, folder: Path) -> Path:
    notebook = skeleton(exercise)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = exercise.solution().get(name, cell.source)
    path = folder / f"{exercise.id}.ipynb"
    nbformat.write(notebook, path)
    return path


def rss() -> int:
    """Resident bytes of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def stock_papermill(folder: Path) -> float:
    import papermill

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import torch"), nbformat.v4.new_code_cell("print(1 + 1)")],
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
    )
    return seconds(lambda: papermill.execute_notebook(notebook, folder / "out.ipynb", progress_bar=False), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=1000, help="trivial submissions to grade")
    count = parser.parse_args().submissions
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, Sandbox(8) as sandbox:
        folder = Path(name)
        (folder / "trivial").mkdir()
        for file, text in TRIVIAL.items():
            (folder / "trivial" / file).write_text(text)
        trivial = load_exercise(folder / "trivial")
        grader = Grader(sandbox, "fork", "bench")
        path = solved(trivial, folder)

        def grade(exercise: Exercise, notebook: Path) -> None:
            result, executed = grader.grade("ada", exercise, notebook)
            assert result.score == result.max_score, result
            write_result(
                folder / "ada" / exercise.id, result, as_page(result, executed), nbformat.writes(executed)
            )

        seconds(lambda: grade(trivial, path), 20)
        early = rss()
        start = time.perf_counter()
        for _ in range(count):
            grade(trivial, path)
        found["trivial submission, sandboxed (s)"] = (time.perf_counter() - start) / count
        found[f"grader's memory after {count} more submissions (ratio)"] = rss() / early
        found["stock papermill with import torch (s)"] = stock_papermill(folder)
        for exercise in Course(ROOT).exercises():
            notebook = solved(exercise, folder)
            found[f"{exercise.id}: whole exercise, sandboxed (s)"] = seconds(
                lambda e=exercise, n=notebook: grade(e, n), 5
            )
        ring = Course(ROOT).exercise("ring-all-reduce")
        found["ring-all-reduce: a learner's own check (s)"] = seconds(lambda: own_check(ring), 5)
        found["4 ranks, one call of a check (s)"] = seconds(four_ranks, 9)
    found["autograder --help (s)"] = seconds(
        lambda: subprocess.run(
            [sys.executable, "-m", "autograder.cli", "--help"], capture_output=True, check=True
        ),
        7,
    )
    found["stock papermill / trivial submission (ratio)"] = (
        found["stock papermill with import torch (s)"] / found["trivial submission, sandboxed (s)"]
    )
    width = max(len(key) for key in found)
    for key, value in found.items():
        print(f"{key:{width}}  {value:8.3f}")
    out = ROOT / "build" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(
        json.dumps({"machine": platform.platform(), "python": platform.python_version(), **found}, indent=1)
    )
    print(f"written to {out}")


def own_check(exercise: Exercise) -> None:
    namespace: dict[str, object] = {}
    exec("import torch\nimport torch.distributed as dist", namespace)
    for source in exercise.solution().values():
        exec(source, namespace)
    result = check_namespace(exercise, namespace)
    assert result.score == result.max_score


def four_ranks() -> None:
    import torch
    import torch.distributed as dist

    from aboard import ranks

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(tensor)
        return tensor

    assert ranks.run(reduce, 4, [torch.ones(1025)] * 4).outputs[3][0] == 4


if __name__ == "__main__":
    main()
