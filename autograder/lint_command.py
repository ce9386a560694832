"""`autograder lint`: lint every exercise and print what it finds."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from autograder.errors import SandboxError, UserError
from autograder.exercise import Course, Exercise
from autograder.lint import Attempt, Report, lint


def lint_course(
    course: Course, ids: list[str] | None, engine: str, seed: str | None, jobs: int, console: Any | None
) -> list[Report]:
    """Reports on the exercises `ids` (all when None), tried `jobs` answers at a time; printed as they come when there is a
    console. UserError when there is nothing to lint or nowhere to do it."""
    from autograder.lint_pool import Pool

    if engine not in ("fork", "kernel"):
        raise UserError(f"--engine {engine!r}: choose fork or kernel.")
    exercises = [course.exercise(i) for i in ids] if ids else course.exercises()
    if not exercises:
        raise UserError(f"There are no exercises in {course.exercises_folder}.")
    ranks = max(e.limits.ranks for e in exercises)
    try:
        with Pool(course, ranks, engine, seed or secrets.token_hex(8), jobs) as pool:
            # All are asked for at once: no core waits for the end of an exercise
            asked = [(exercise, pool.ask(exercise)) for exercise in exercises]
            reports = [_lint(exercise, attempts, console) for exercise, attempts in asked]
    except SandboxError as error:
        raise UserError(f"{error}. `autograder doctor` says what is missing.") from None
    except BrokenProcessPool:
        raise UserError(
            "A process that tried answers was killed, perhaps because memory ran out; try fewer at a time (--jobs)."
        ) from None
    if console:
        _summary(reports, console)
    return reports


def _lint(exercise: Exercise, attempts: Iterable[Attempt], console: Any | None) -> Report:
    if console is None:
        return lint(exercise, attempts)
    console.print(f"\n{exercise.id}: {exercise.title}", markup=False)
    report = lint(
        exercise, attempts, lambda attempt: console.print(_line(attempt), markup=False, soft_wrap=True)
    )
    for problem in report.problems:
        console.print(f"  ✗ {problem}", markup=False, soft_wrap=True)
    return report


def _line(attempt: Attempt) -> str:
    mark = "✓" if attempt.ok else "✗"
    text = f"  {mark} {attempt.kind:8} {attempt.name:28} {attempt.score:g}/{attempt.max_score:g}  {attempt.seconds:.1f} s"
    if attempt.problem:
        return text + f"\n      {attempt.problem}"
    named = ", ".join(dict.fromkeys(attempt.got.values())) if attempt.kind == "wrong" else ""
    return text + (f"  {named}" if named else "")


def _summary(reports: list[Report], console: Any) -> None:
    from rich.table import Table

    table = Table(title="\nWrong answers caught and named, right answers accepted", title_justify="left")
    for heading, justify in (
        ("exercise", "left"),
        ("wrong caught", "right"),
        ("right accepted", "right"),
        ("s", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for report in reports:
        (caught, wrong), (accepted, right) = report.caught(), report.accepted()
        seconds = sum(a.seconds for a in report.attempts)
        table.add_row(report.exercise, f"{caught}/{wrong}", f"{accepted}/{right}", f"{seconds:.0f}")
    console.print(table)
