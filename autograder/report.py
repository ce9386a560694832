"""A cohort at a glance: who has what, and what most people stumble over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autograder.feedback import _template, plain, points, sentence
from autograder.release import write_atomic
from autograder.verdict import Result

STATUS = {"rejected": "not a usable notebook", "crashed": "ended its process", "timed_out": "out of time"}


@dataclass
class Grade:
    """One cell of the table."""

    score: float
    max_score: float
    status: str
    link: str

    @property
    def share(self) -> float:
        return self.score / self.max_score if self.max_score else 0.0

    @property
    def word(self) -> str:
        if self.status == "rejected" and not self.max_score:
            return "no such exercise"
        return STATUS.get(self.status, "")


@dataclass
class CheckSummary:
    """One check over all learners. `diagnoses` counts names; `says` has the sentence of each."""

    title: str
    passed: int = 0
    others: int = 0
    diagnoses: Counter[str] = field(default_factory=Counter)
    says: dict[str, str] = field(default_factory=dict)

    @property
    def commonest(self) -> tuple[str, int, str] | None:
        if not self.diagnoses:
            return None
        name, count = min(self.diagnoses.items(), key=lambda item: (-item[1], item[0]))
        return name, count, self.says.get(name, "")

    @property
    def share(self) -> float:
        return self.passed / max(1, self.passed + self.others)


@dataclass
class Cohort:
    """What the report shows: kept small, however many results there were."""

    titles: dict[str, str] = field(default_factory=dict)
    grades: dict[str, dict[str, Grade]] = field(default_factory=dict)  # learner → exercise
    checks: dict[str, dict[str, CheckSummary]] = field(default_factory=dict)  # exercise → check
    stuck: list[tuple[str, str, str]] = field(default_factory=list)  # learner, exercise's title, sentence

    def add(self, result: Result) -> None:
        title = plain(result.title or result.exercise, 120)
        self.titles.setdefault(result.exercise, title)
        link = f"{quote(result.learner, safe='')}/{quote(result.exercise, safe='')}/feedback.html"
        grade = Grade(result.score, result.max_score, result.status, link)
        self.grades.setdefault(result.learner, {})[result.exercise] = grade
        for check in result.checks:
            mine = self.checks.setdefault(result.exercise, {}).setdefault(
                check.id, CheckSummary(plain(check.title, 200))
            )
            if check.status == "pass":
                mine.passed += 1
                continue
            mine.others += 1
            if check.diagnosis:
                mine.diagnoses[check.diagnosis] += 1
                mine.says.setdefault(check.diagnosis, plain(check.says or "", 400))
        first = next((c for c in result.checks if c.status != "pass" and (c.says or c.message)), None)
        if result.status == "rejected":
            self.stuck.append((plain(result.learner, 80), title, plain(result.message, 300)))
        elif first is not None:
            self.stuck.append(
                (
                    plain(result.learner, 80),
                    title,
                    f"{plain(first.title, 120)}: {plain(first.says or first.message, 300)}",
                )
            )


def gather(results: Iterable[Result]) -> Cohort:
    cohort = Cohort()
    for result in results:
        cohort.add(result)
    return cohort


def write_report(results: Iterable[Result], out: Path) -> Path:
    """Write OUT/report.html; its path."""
    cohort = gather(results)
    page = _template("report.html").render(
        cohort=cohort, points=points, plain=plain, sentence=sentence, bar=round
    )
    path = out / "report.html"
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


COLUMN = 14  # characters that a title needs to break at words, and what stands beside it


def tables(results: Iterable[Result], width: int) -> Iterator[Any]:
    """The scores as tables for a terminal `width` characters wide: learners down, as many exercises across as fit."""
    from rich.table import Table
    from rich.text import Text

    cohort = gather(results)
    names = {learner: plain(learner, 24) for learner in cohort.grades}
    across = max(1, (width - max(map(len, [*names.values(), "learner"])) - 4) // COLUMN)
    exercises = list(cohort.titles)
    for first in range(0, len(exercises), across):
        here = exercises[first : first + across]
        more = f", exercises {first + 1} to {first + len(here)} of {len(exercises)}"
        made = Table(title="Scores" + (more if len(exercises) > across else ""), title_justify="left")
        made.add_column("learner", no_wrap=True)
        for exercise in here:
            made.add_column(Text(cohort.titles[exercise]), justify="right")
        for learner, grades in cohort.grades.items():
            cells = []
            for exercise in here:
                grade = grades.get(exercise)
                text = "" if grade is None else f"{points(grade.score)}/{points(grade.max_score)}"
                cells.append(Text(text + (f"\n{grade.word}" if grade and grade.word else "")))
            made.add_row(Text(names[learner]), *cells)
        yield made
