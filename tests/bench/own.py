"""What grading costs by itself: in this process, with a warm sandbox, beside stock papermill in the same run."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

from aboard.cluster import means
from autograder.check import check_namespace
from autograder.exercise import Course, Exercise
from autograder.feedback import as_page
from autograder.grade import Grader
from autograder.sandbox.host import Sandbox
from autograder.store import write_result
from tests.bench.ours import solved, write_course
from tests.bench.work import ADD

ROOT = Path(__file__).resolve().parents[2]
# Exercises that run over world sizes 1, 2, 3, 4 and 8, and no jobs, conversations with files or large models beside it.
OVER_ALL_WORLDS = {"ring-all-reduce", "ddp-from-scratch", "zero"}


@dataclass(frozen=True)
class Figure:
    """One measured number. `goal`: what it should reach, as in "≤ 0.1"; "" when there is none."""

    what: str
    value: float
    unit: str
    goal: str = ""


def figures(count: int) -> Iterator[Figure]:
    """Measure one by one. `count`: trivial submissions over which time and memory are taken."""
    with tempfile.TemporaryDirectory() as name, Sandbox(8) as sandbox:
        folder = Path(name)
        (trivial,) = write_course(folder / "course", [ADD])
        grader = Grader(sandbox, "fork", "bench")

        def grade(exercise: Exercise, notebook: Path) -> None:
            result, executed = grader.grade("ada", exercise, notebook)
            assert result.score == result.max_score, result
            write_result(
                folder / "ada" / exercise.id, result, as_page(result, executed), nbformat.writes(executed)
            )

        path = _handed_in(trivial, folder)
        _seconds(lambda: grade(trivial, path), 20)
        early, start = _resident(), time.perf_counter()
        for _ in range(count):
            grade(trivial, path)
        each = (time.perf_counter() - start) / count
        yield Figure("a trivial notebook, sandboxed, one core", each, "s", "≤ 0.1")
        yield Figure(
            f"the grader's memory after {count} more, as a multiple", _resident() / early, "×", "≤ 1.1"
        )
        stock = _stock_papermill(folder)
        yield Figure("stock papermill, a notebook with `import torch`", stock, "s")
        yield Figure("stock papermill's time as a multiple of ours", stock / each, "×", "≥ 10")
        for exercise in Course(ROOT).exercises():
            notebook = _handed_in(exercise, folder)
            taken = _seconds(lambda e=exercise, n=notebook: grade(e, n), 5)
            goal = "≤ 2" if exercise.id in OVER_ALL_WORLDS else ""
            yield Figure(f"the whole exercise {exercise.id}, sandboxed", taken, "s", goal)
        ring = Course(ROOT).exercise("ring-all-reduce")
        yield Figure("ring-all-reduce: a learner's own check", _seconds(lambda: _own_check(ring), 5), "s")
        yield Figure("a call on 4 ranks in a learner's own check", _seconds(_four_ranks, 9), "s", "≤ 1")
    yield from lessons()
    shown = [sys.executable, "-m", "autograder.cli", "--help"]
    taken = _seconds(lambda: subprocess.run(shown, capture_output=True, check=True), 7)
    yield Figure("autograder --help", taken, "s", "≤ 0.3")


def lessons() -> Iterator[Figure]:
    """All cells of each lesson, run in its folder by a fresh kernel, as building the book does."""
    for path in sorted((ROOT / "notebooks").glob("*/*/lesson.md")):
        if "\n  needs: slurm\n" in path.read_text() and means.missing(means.SLURM):
            continue
        start = time.perf_counter()
        with _kernels_remarks_hidden():
            NotebookClient(
                jupytext.read(path), timeout=300, resources={"metadata": {"path": str(path.parent)}}
            ).execute()
        taken = time.perf_counter() - start
        yield Figure(f"the whole lesson {path.parent.name}, all its cells run", taken, "s", "≤ 60")


def _seconds(function: Callable[[], object], times: int) -> float:
    """Median wall seconds of `function` over `times` runs."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _handed_in(exercise: Exercise, folder: Path) -> Path:
    path = folder / f"{exercise.id}.ipynb"
    path.write_text(solved(exercise))
    return path


def _resident() -> int:
    """Resident bytes of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _stock_papermill(folder: Path) -> float:
    import papermill

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import torch"), nbformat.v4.new_code_cell("print(1 + 1)")],
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
    )
    with _kernels_remarks_hidden():
        return _seconds(
            lambda: papermill.execute_notebook(notebook, folder / "out.ipynb", progress_bar=False), 5
        )


@contextmanager
def _kernels_remarks_hidden() -> Iterator[None]:
    """A kernel remarks on its transport, on our standard error, each time it starts."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _own_check(exercise: Exercise) -> None:
    namespace: dict[str, object] = {}
    exec("import torch\nimport torch.distributed as dist", namespace)
    for source in exercise.solution().values():
        exec(source, namespace)
    result = check_namespace(exercise, namespace)
    assert result.score == result.max_score


def _four_ranks() -> None:
    import torch
    import torch.distributed as dist

    from aboard import ranks

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(tensor)
        return tensor

    assert ranks.run(reduce, 4, [torch.ones(1025)] * 4).outputs[3][0] == 4
