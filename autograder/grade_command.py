"""`autograder grade`: plan the batch, show its progress, ingest the results, write the report, print the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autograder import batch as batches
from autograder.errors import UserError
from autograder.exercise import Course
from autograder.verdict import Result


def grade_cohort(
    course: Course,
    submissions: Path,
    out: Path,
    jobs: int,
    seed: str | None,
    engine: str,
    force: bool,
    console: Any,
) -> None:
    """Grade everything under `submissions`. Raises UserError when grading itself cannot be done."""
    from autograder.report import tables, write_report
    from autograder.store import StoreError, ingest

    if course.is_workspace:
        raise UserError(
            f"{course.root} is a learner's workspace; a course taken from there cannot be trusted. Give yours: --course DIR."
        )
    course.exercises()  # a bad exercise is told before anything is graded
    batch = batches.plan(submissions, out, engine, seed, force)
    for warning in batch.warnings:
        console.print(f"note: {warning}", markup=False)
    if batch.todo:
        _require_sandbox()
        _require_open_files()
        already = f", {len(batch.done_before)} already done" if batch.done_before else ""
        work, by = _counted(len(batch.todo), "submission"), _counted(jobs, "worker")
        console.print(f"Grading {work} with {by}{already}.", markup=False)
        try:
            _run(course, submissions, out, batch, jobs, console)
        except OSError as error:
            raise UserError(
                f"Grading could not go on: {error}. Run the same command again when that is mended; nothing is graded twice."
            ) from None
    elif batch.done_before:
        console.print(
            f"All {len(batch.done_before)} submissions are graded already; --force grades again.",
            markup=False,
        )
    else:
        raise UserError(
            f"{submissions} holds no notebooks; they should be at {submissions}/LEARNER/EXERCISE.ipynb."
        )
    lost = batches.lost(batch, out)
    if lost:
        raise UserError(
            f"{len(lost)} results are no longer in {out}; something has removed them. Run the same command again: {_few(lost)}"
        )
    try:
        ingest(out)
        report = write_report(_results(out), out)
    except (OSError, StoreError) as error:
        raise UserError(
            f"The results are in {out}, but the database or the report could not be written: {error}. Run the same "
            "command again when that is mended; nothing is graded twice."
        ) from None
    for table in tables(_results(out), console.width):
        console.print(table)
    console.print(f"Report: {report}", markup=False)
    if batch.errors:
        raise UserError(
            f"{len(batch.errors)} submissions could not be graded; run the same command again: "
            + _few([f"{name}: {why}" for name, why in batch.errors])
        )


def _few(lines: list[str], most: int = 10) -> str:
    rest = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "".join(f"\n  {line}" for line in lines[:most] + rest)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _require_sandbox() -> None:
    from autograder.sandbox.outer import bubblewrap

    if bubblewrap() is not None:
        return
    from autograder.sandbox import confined, wall  # here: PyTorch comes with them

    if (no_wall := wall.why_not()) and (no_room := confined.why_not()):
        raise UserError(
            "Other people's code is not run without a sandbox, and none works here. bubblewrap: it is not installed "
            f"(apt-get install bubblewrap iproute2); namespaces: {no_wall}; landlock: {no_room}. "
            "`autograder doctor` says more, and `autograder check` checks your own notebook without one."
        )


def _require_open_files() -> None:
    """Raise the limit on open files as far as it goes, for workers and sandboxes too."""
    import resource

    from autograder.sandbox.outer import OPEN_FILES

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        raise UserError(
            f"A process may open only {hard} files here (ulimit -Hn), and grading needs {OPEN_FILES}; raise that limit."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(course: Course, submissions: Path, out: Path, batch: batches.Batch, jobs: int, console: Any) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"),
        TimeRemainingColumn(),
    )  # fmt: skip
    if not console.is_terminal:
        count = 0

        def tell(task: batches.Task, reply: dict[str, Any]) -> None:
            nonlocal count
            count += 1
            console.print(f"[{count}/{len(batch.todo)}] {_line(task, reply)}", markup=False, soft_wrap=True)

        batches.run(course, submissions, out, batch, jobs, tell)
        return
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("grading", total=len(batch.todo))
        batches.run(course, submissions, out, batch, jobs, lambda task, reply: progress.advance(bar))


def _line(task: batches.Task, reply: dict[str, Any]) -> str:
    from autograder.submission import safe_text

    name = f"{safe_text(task.learner)}/{safe_text(task.exercise)}"
    if "error" in reply:
        return f"{name}: not graded: {reply['error']}"
    return f"{name}: {reply['status']}, {reply['score']:g} of {reply['max_score']:g}"


def _results(out: Path) -> Iterator[Result]:
    from autograder.store import read_result

    for path in sorted(out.glob("*/*/result.json")):
        result = read_result(path)
        if result is not None:
            yield result
