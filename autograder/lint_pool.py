"""Processes that try the variants of exercises, as many at a time as there are cores, each in a sandbox of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from autograder import execute  # noqa: F401  here, so that all of them have it
from autograder.errors import UserError
from autograder.exercise import Course, Exercise
from autograder.grade import Grader
from autograder.lint import Attempt, try_variant, variants
from autograder.sandbox.host import Sandbox
from autograder.sandbox.kernel import PR_SET_PDEATHSIG, prctl


class Pool:
    """`jobs` such processes for the exercises of a course. A context manager; leaving it drops what has not been tried."""

    def __init__(self, course: Course, ranks: int, engine: str, seed: str, jobs: int) -> None:
        """ranks: what the largest exercise needs."""
        self._processes = ProcessPoolExecutor(
            jobs, get_context("fork"), _begin, (str(course.root), ranks, engine, seed)
        )

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.shutdown(cancel_futures=True)

    def ask(self, exercise: Exercise) -> Iterator[Attempt]:
        """Have everything that `exercise` ships tried; attempts in the order of `variants`, each as soon as it is there.

        It is tried whether or not anybody waits for it. Waiting raises UserError for a mistake in the exercise's folder,
        SandboxError where no sandbox works, BrokenProcessPool when one of the processes was killed.
        """
        try:
            number = len(list(variants(exercise)))
            pending = [self._processes.submit(_try, exercise.id, i) for i in range(number)]
        except UserError as error:
            pending = [Future()]
            pending[0].set_exception(error)
        return self._results(pending)

    def _results(self, pending: list[Future[Attempt]]) -> Iterator[Attempt]:
        try:
            for future in pending:
                yield future.result()
        finally:
            for future in pending:
                future.cancel()


# --- in each of the processes

_settings: dict[str, Any] = {}


def _begin(root: str, ranks: int, engine: str, seed: str) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a lint that is killed leaves nothing behind
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # one that is interrupted ends at once
    _settings.update(root=Path(root), ranks=ranks, engine=engine, seed=seed)


def _try(exercise: str, number: int) -> Attempt:
    (found, everything), grader = _exercise(exercise), _grader()
    grader.judge_of(found)  # not on the time of the first answer
    return try_variant(found, grader, *everything[number])


@cache
def _grader() -> Grader:
    return Grader(Sandbox(_settings["ranks"]), _settings["engine"], _settings["seed"])


@cache
def _exercise(id: str) -> tuple[Exercise, list[tuple[str, str, dict[str, str], dict[str, str]]]]:
    exercise = Course(_settings["root"]).exercise(id)
    return exercise, list(variants(exercise))
