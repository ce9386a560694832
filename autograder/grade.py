"""Grade one submission: read → assemble → execute → judge → verdict.

Each step is a module of its own and knows only the one before; this one puts them in order and writes down how it went.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from autograder.assemble import assemble, solved_cells
from autograder.judge import Judge, load_judge, run_checks
from autograder.submission import Rejected, Submission, file_sha256, read_submission
from autograder.verdict import CellResult, CheckResult, Resources, Result, Status

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from autograder.execute import Executed
    from autograder.exercise import Exercise
    from autograder.sandbox.host import Sandbox

ATTEMPTS = 4  # at one submission whose processes end, until two agree


@dataclass
class Grader:
    """What is needed to grade, made once and used for many submissions: a warm sandbox, an engine, a secret seed."""

    sandbox: Sandbox
    engine: str
    seed: str

    def __post_init__(self) -> None:
        self._judges: dict[Path, tuple[Judge, str]] = {}

    def judge_of(self, exercise: Exercise) -> tuple[Judge, str]:
        """The exercise's judge and the text of its drive.py ("" when it has none)."""
        if exercise.folder not in self._judges:
            drive = exercise.folder / "drive.py"
            text = drive.read_text(encoding="utf-8") if drive.is_file() else ""
            self._judges[exercise.folder] = (load_judge(exercise), text)
        return self._judges[exercise.folder]

    def grade(
        self, learner: str, exercise: Exercise, path: Path, under: Path | None = None
    ) -> tuple[Result, NotebookNode | None]:
        """The result of the notebook at `path`, and the notebook as it ran (None when it was not run).

        Raises SandboxError when the sandbox failed; nothing the learner does raises.
        """
        try:
            submission = read_submission(path, exercise, under=under)
        except Rejected as error:
            return rejected(learner, exercise, str(error), self, path), None
        # A process that ended may have been ended from outside: a machine short of memory, an operator. The answers'
        # own doing is what happens twice.
        seen: list[object] = []
        for _ in range(ATTEMPTS):
            result, executed = self._attempt(learner, exercise, submission)
            if not executed.process_ended and not any(c.diagnosis == "died" for c in result.checks):
                break
            outcome = _outcome(result)
            if outcome in seen:
                break
            seen.append(outcome)
        return result, executed.notebook

    def grade_answers(
        self,
        learner: str,
        exercise: Exercise,
        submission: Submission,
        on_check: Callable[[CheckResult], None] = lambda result: None,
        only: Collection[str] | None = None,
    ) -> tuple[Result, NotebookNode]:
        """Grade answers that have been read already, once; by the checks named in `only`, or by all."""
        result, executed = self._attempt(learner, exercise, submission, on_check, only)
        return result, executed.notebook

    def _attempt(
        self,
        learner: str,
        exercise: Exercise,
        submission: Submission,
        on_check: Callable[[CheckResult], None] = lambda result: None,
        only: Collection[str] | None = None,
    ) -> tuple[Result, Executed]:
        from autograder.execute import execute
        from autograder.sandbox.room_host import SandboxRoom

        judge, drive = self.judge_of(exercise)
        if only is not None:
            judge = Judge(exercise, [check for check in judge.checks if check.id in only])
        start = time.monotonic()
        room = SandboxRoom(self.sandbox, exercise.limits, drive, lambda: solved_cells(exercise))
        try:
            executed = execute(assemble(exercise, submission), room, self.engine, exercise.limits)
            left = exercise.limits.wall_s - (
                time.monotonic() - start if self.engine == "fork" else executed.seconds / 4
            )
            checks = run_checks(judge, room, self.seed, max(1.0, left), on_check=on_check)
        finally:
            room.close()
        cells = [_with_submission(cell, submission) for cell in executed.cells]
        checks = [with_cause(check, cells) for check in checks]
        result = Result(
            learner=learner, exercise=exercise.id, title=exercise.title, status=_status(checks, cells),
            score=sum(c.points for c in checks), max_score=exercise.max_score, checks=checks, cells=cells,
            notes=list(submission.notes), seed=self.seed, engine=self.engine, sandbox=list(self.sandbox.layers),
            resources=Resources(
                wall_s=round(time.monotonic() - start, 3), cpu_s=round(room.cpu_s, 3),
                peak_rss_bytes=room.peak_rss_bytes,
            ),
            versions=versions(), submission_sha256=submission.sha256,
        )  # fmt: skip
        if result.status == "timed_out":
            result.message = (
                f"The time limit of {exercise.limits.wall_s:.0f} s was reached; points earned before count."
            )
        elif result.status == "crashed":
            result.message = "The answers ended the process they ran in, so nothing could be checked."
        return result, executed


def _outcome(result: Result) -> object:
    """What does not differ between two gradings of the same answers: no measured figures."""
    return (
        result.status,
        [(c.id, c.status) for c in result.cells],
        [(c.id, c.status, c.diagnosis) for c in result.checks],
    )


def rejected(
    learner: str, exercise: Exercise | None, message: str, grader: Grader | None, path: Path, id: str = ""
) -> Result:
    """The result of a submission that cannot be read as one, with the sentence why."""
    checks = []
    if exercise is not None and grader is not None:
        judge, _ = grader.judge_of(exercise)
        checks = [
            CheckResult(
                id=c.id, title=c.title, about=c.about, max_points=exercise.points[c.id], status="not_run"
            )
            for c in judge.checks
        ]
    return Result(
        learner=learner, exercise=exercise.id if exercise else id, title=exercise.title if exercise else "",
        status="rejected", message=message, max_score=exercise.max_score if exercise else 0.0, checks=checks,
        seed=grader.seed if grader else "", engine=grader.engine if grader else "", versions=versions(),
        submission_sha256=file_sha256(path),
    )  # fmt: skip


@cache
def versions() -> dict[str, str]:
    """What graded: versions that can change a verdict."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("all-aboard", "torch", "papermill"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _status(checks: list[CheckResult], cells: list[CellResult]) -> Status:
    if any(c.status in ("timeout", "not_run") for c in checks):
        return "timed_out"
    from autograder.execute import GONE

    dead = [c for c in cells if c.message == GONE]
    if dead and len(dead) == len(cells):
        return "crashed"
    return "graded"


def _with_submission(cell: CellResult, submission: Submission) -> CellResult:
    if cell.id in submission.missing:
        return cell.model_copy(
            update={"status": "missing", "message": "This answer cell is not in the notebook."}
        )
    if cell.id in submission.empty:
        return cell.model_copy(update={"status": "empty", "message": "This answer is still to be written."})
    return cell


def with_cause(check: CheckResult, cells: list[CellResult]) -> CheckResult:
    """A function that is not defined: say which cell should have defined it, and what happened there."""
    if check.diagnosis != "missing":
        return check
    broken = [
        f"Answer cell {c.id}: {c.message.rstrip('.')}."
        for c in cells
        if c.status in ("error", "timeout", "missing", "not_run")
    ]
    why = broken or ["Its cell ran, so compare the name it defines, letter by letter."] * bool(cells)
    return check.model_copy(update={"message": " ".join([check.message, *why])})
