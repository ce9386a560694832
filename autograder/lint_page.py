"""The curriculum's own tests as a table for the book: a row for each exercise, from the run that last linted it."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path

from autograder.errors import UserError
from autograder.exercise import Course
from autograder.lint import Report

HEAD = (
    "| exercise | wrong answers caught and named | right answers accepted | seconds for the solution | when |"
)
RULE = "|---|---:|---:|---:|---|"


def bring_up_to_date(page: Path, course: Course, reports: list[Report]) -> None:
    """Write the rows of `reports` into the table in the file `page`; rows of other exercises of the course stay.

    Raises UserError when the file cannot be written.
    """
    try:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        rows = {row[1]: row[0] for row in re.finditer(r"^\| `([a-z0-9-]+)` \|.*$", text, re.MULTILINE)}
        rows |= {report.exercise: _row(report) for report in reports}
        order = [exercise.id for exercise in course.exercises() if exercise.id in rows]
        page.parent.mkdir(parents=True, exist_ok=True)
        lines = [HEAD, RULE, *(rows[name] for name in order), "", _where()]
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{page} cannot be written: {error}.") from error


def _row(report: Report) -> str:
    (caught, wrong), (accepted, right) = report.caught(), report.accepted()
    solution = next((a.seconds for a in report.attempts if a.kind == "solution"), 0.0)
    when = datetime.date.today().isoformat()
    return f"| `{report.exercise}` | {caught} of {wrong} | {accepted} of {right} | {solution:.1f} | {when} |"


def _where() -> str:
    import torch

    kernel = platform.release().partition("-")[0]
    return (
        f"On {os.cpu_count()} cores, {platform.system()} {kernel}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}. A solution is graded in the sandbox with all its checks."
    )
