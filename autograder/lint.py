"""The curriculum's own tests: every exercise's solution, empty notebook, wrong and right answers, graded for real.

An exercise is fit to teach with when its solution earns every point, an untouched notebook none, every wrong answer
fails exactly the checks it declares with exactly those diagnoses, and every different right answer earns every point.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from autograder.errors import UserError
from autograder.exercise import Exercise
from autograder.expect import COMMON, count
from autograder.judge import hints_by_name
from autograder.submission import Submission

if TYPE_CHECKING:
    from autograder.grade import Grader

FEWEST_WRONG, FEWEST_RIGHT = 6, 2


@dataclass
class Attempt:
    """One variant of an exercise, graded."""

    exercise: str
    kind: str  # solution, empty, wrong, right
    name: str
    expected: dict[str, str]  # check → diagnosis it must fail with
    got: dict[str, str]
    score: float
    max_score: float
    seconds: float
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


@dataclass
class Report:
    """What lint found about one exercise."""

    exercise: str
    attempts: list[Attempt] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and all(a.ok for a in self.attempts)

    def caught(self) -> tuple[int, int]:
        """(wrong answers caught and named, wrong answers)."""
        wrong = [a for a in self.attempts if a.kind == "wrong"]
        return sum(a.ok for a in wrong), len(wrong)

    def accepted(self) -> tuple[int, int]:
        """(right answers accepted, right answers), the solution among them."""
        right = [a for a in self.attempts if a.kind in ("right", "solution")]
        return sum(a.ok for a in right), len(right)

    def as_data(self) -> dict[str, Any]:
        return {"exercise": self.exercise, "ok": self.ok, "problems": self.problems,
                "attempts": [asdict(a) | {"ok": a.ok} for a in self.attempts]}  # fmt: skip


def variants(exercise: Exercise) -> Iterator[tuple[str, str, dict[str, str], dict[str, str]]]:
    """(kind, name, answers, checks that must fail → diagnosis) of everything an exercise ships."""
    yield "solution", "solution", exercise.solution(), {}
    yield "empty", "empty", exercise.stub(), dict.fromkeys(exercise.points, "")
    for variant in exercise.variants("right"):
        yield "right", variant.name, dict(variant.answers), {}
    for variant in exercise.variants("wrong"):
        yield "wrong", variant.name, dict(variant.answers), dict(variant.fails)


def lint(
    exercise: Exercise,
    attempts: Iterable[Attempt],
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> Report:
    """What `attempts`, at everything that `exercise` ships, say of it; and what its folder says.

    A mistake in its folder is a problem of this report: it does not keep other exercises from being linted.
    """
    report = Report(exercise.id)
    try:
        wrong, right = exercise.variants("wrong"), exercise.variants("right")
        for kind, found, fewest in (("wrong", wrong, FEWEST_WRONG), ("right", right, FEWEST_RIGHT)):
            if len(found) < fewest:
                report.problems.append(f"{count(len(found), f'{kind} answer')}; {fewest} are asked for")
        report.problems += nameless(exercise) + mistyped(exercise)
        for attempt in attempts:
            report.attempts.append(attempt)
            on_attempt(attempt)
    except UserError as error:
        report.problems.append(str(error))
    return report


def nameless(exercise: Exercise) -> list[str]:
    """A sentence for each diagnosis that a wrong answer declares and no learner could read."""
    return [
        f"{variant.path}: `{diagnosis}` has no sentence; write one in [diagnoses] of exercise.toml"
        for variant in exercise.variants("wrong")
        for diagnosis in sorted(set(variant.fails.values()))
        if diagnosis not in exercise.diagnoses and diagnosis not in COMMON
    ]


def mistyped(exercise: Exercise) -> list[str]:
    """A sentence for each hint that begins like one of a check or a diagnosis, and there is no such."""
    _, for_any_check = hints_by_name(exercise)
    return [
        f"{exercise.folder}/exercise.toml: a hint begins with `{name[0]}`, and no check or diagnosis is called that"
        for hint in for_any_check
        if (name := re.match(r"[a-z][a-z0-9_-]*(?=: )", hint))
    ]


def try_variant(
    exercise: Exercise,
    grader: Grader,
    kind: str,
    name: str,
    answers: dict[str, str],
    expected: dict[str, str],
    only: Collection[str] | None = None,
) -> Attempt:
    """Grade one variant and compare what fails, and how it is named, with what it declares.

    `only`: ids of the checks to run; by default all.
    """
    start = time.monotonic()
    submission = Submission(answers=answers, notes=[], missing=[], sha256="")
    result, _ = grader.grade_answers("lint", exercise, submission, only=only)
    got = {c.id: c.diagnosis or c.status for c in result.checks if c.status != "pass"}
    attempt = Attempt(
        exercise.id,
        kind,
        name,
        expected,
        got,
        result.score,
        result.max_score,
        round(time.monotonic() - start, 2),
    )
    if kind == "empty":
        if result.score:
            attempt.problem = f"an untouched notebook earns {result.score:g} points"
    elif got != expected:
        attempt.problem = f"expected {_list(expected)}, got {_list(got)}"
        details = [
            f"{c.id}: {c.message}" + (f" [{c.case}]" if c.case else "")
            for c in result.checks
            if c.status != "pass"
        ]
        attempt.problem += " (" + "; ".join(details) + ")" if details else ""
    elif kind in ("solution", "right") and result.score != result.max_score:
        attempt.problem = f"earns {result.score:g} of {result.max_score:g} points"
    return attempt


def _list(failed: dict[str, str]) -> str:
    return ", ".join(f"{check} as {diagnosis}" for check, diagnosis in failed.items()) or "no failure"
