"""A learner's own check: her code, here and now, judged on fresh public draws with the feedback that grading gives.

No sandbox: it is her machine and her code. Grading other people's work goes through `grade`.
"""

from __future__ import annotations

import linecache
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autograder.errors import UserError
from autograder.exercise import Course, Exercise
from autograder.judge import load_judge, load_module, run_checks
from autograder.learner import HereAndNow
from autograder.verdict import CellResult, Resources, Result, exception_in_words

WALL_S = 120.0


def check_namespace(
    exercise: Exercise,
    namespace: Mapping[str, Any],
    cells: list[CellResult] | None = None,
    seed: str | None = None,
) -> Result:
    """Judge the functions in `namespace`. Draws are fresh unless `seed` is given."""
    judge = load_judge(exercise)
    path = exercise.folder / "drive.py"
    drive = vars(load_module(path, f"drive_{exercise.id.replace('-', '_')}")) if path.is_file() else {}
    seed = seed or secrets.token_hex(8)
    start = time.monotonic()
    checks = run_checks(judge, HereAndNow(namespace, drive, _given(exercise)), seed, WALL_S, local=True)
    from autograder.grade import versions, with_cause

    checks = [with_cause(c, cells or []) for c in checks]
    return Result(
        learner="you", exercise=exercise.id, title=exercise.title, status="graded",
        score=sum(c.points for c in checks), max_score=exercise.max_score, checks=checks, cells=cells or [],
        seed=seed, engine="here", resources=Resources(wall_s=round(time.monotonic() - start, 3)), versions=versions(),
    )  # fmt: skip


def _given(exercise: Exercise) -> list[str]:
    """The code that an exercise's notebook gives."""
    cells = exercise.source().cells
    return [
        c.source for c in cells
        if c.cell_type == "code" and "answer" not in c.metadata and not c.metadata.get("tags")
    ]  # fmt: skip


def check_notebook(path: Path, course: Course | None = None, seed: str | None = None) -> Result:
    """Run the answer cells of a notebook in this process and judge them. UserError when it is no exercise's notebook."""
    from autograder.submission import Rejected, read_submission

    exercise = _exercise_of(path, course)
    try:
        submission = read_submission(path, exercise)
    except Rejected as error:
        raise UserError(str(error)) from None
    from autograder.assemble import assemble

    shell = _shell()
    cells = []
    for cell in assemble(exercise, submission).cells:
        if cell.cell_type != "code":
            continue
        answer = cell.metadata.get("all_aboard", {}).get("answer")
        result = shell.run_cell(cell.source, store_history=True, silent=False)
        raised = result.error_before_exec or result.error_in_exec
        if answer:
            status: Any = (
                "missing" if answer in submission.missing else "empty" if answer in submission.empty else "ok"
            )
            message = ""
            if raised is not None:
                status, message = "error", exception_in_words(type(raised).__name__, str(raised))
            cells.append(CellResult(id=answer, status=status, message=message))
    result = check_namespace(exercise, shell.user_ns, cells, seed)
    return result.model_copy(update={"notes": list(submission.notes)})


def check_here(exercise_id: str, course: Path | None = None) -> None:
    """What `autograder.check("id")` does in a notebook: judge the variables around the call and show the feedback."""
    from autograder.feedback import as_html_fragment, as_plain, as_text

    exercise = Course.find(course).exercise(exercise_id)
    try:
        from IPython import get_ipython

        shell = get_ipython()
    except ImportError:
        shell = None
    namespace = shell.user_ns if shell is not None else vars(sys.modules["__main__"])
    result = check_namespace(exercise, namespace)
    if shell is not None and "zmq" in type(shell).__module__:
        from IPython.display import HTML, display

        display({"text/html": HTML(as_html_fragment(result)).data, "text/plain": as_plain(result)}, raw=True)
    else:
        from rich.console import Console

        Console().print(as_text(result))


def _exercise_of(path: Path, course: Course | None) -> Exercise:
    """The exercise a notebook belongs to: named in its metadata, else by its file name."""
    import json

    try:
        name = json.loads(path.read_text(encoding="utf-8"))["metadata"]["all_aboard"]["exercise"]
    except FileNotFoundError:
        raise UserError(f"There is no notebook {path}.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = path.stem
    if course is None:
        course = Course.find_from(path.resolve().parent)
    return course.exercise(str(name))


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    # What a cell raises is told with the feedback, in one line.
    shell.showtraceback = shell.showsyntaxerror = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
    linecache.checkcache()
    return shell
