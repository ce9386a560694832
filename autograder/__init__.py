"""All Aboard, the grading side: release exercises, check your own work, grade other people's in a sandbox."""

from __future__ import annotations

from pathlib import Path

__all__ = ["check"]


def check(exercise: str, course: str | Path | None = None) -> None:
    """Judge your answers to `exercise` on fresh draws and show what to do next. For the last cell of its notebook."""
    from autograder.check import check_here
    from autograder.errors import UserError

    try:
        check_here(exercise, Path(course) if course else None)
    except UserError as error:
        print(error)
