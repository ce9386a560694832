"""What a grading run says: the types of `result.json`.

Everything downstream (feedback pages, reports, the database) is made from these models and from nothing else.
The JSON Schema of `Result` is committed beside this file as `result.schema.json`; a test keeps the two equal.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "all-aboard/result/1"

Status = Literal["graded", "rejected", "crashed", "timed_out"]
CheckStatus = Literal["pass", "fail", "error", "timeout", "not_run"]


class Record(BaseModel):
    """Base of every stored model: closed (no unknown keys), so that a typing mistake is an error, not a silence."""

    model_config = ConfigDict(extra="forbid")


class CheckResult(Record):
    """One check of one exercise.

    `diagnosis` is a short name from the exercise's `[diagnoses]` table or one of `autograder.expect.COMMON`;
    `message` says what was expected, what came, and for which draw, without the hidden value.
    """

    id: str
    title: str
    about: str = "numerics"
    points: float = 0.0
    max_points: float
    status: CheckStatus
    diagnosis: str | None = None
    says: str | None = None  # the diagnosis in a sentence
    message: str = ""
    case: str | None = None  # the draw it was found with: "3 ranks, float32, 1025 elements"
    hint: str | None = None  # where to look next, when there is a hint for it


class CellResult(Record):
    """What became of one answer cell when the notebook ran."""

    id: str
    status: Literal["ok", "error", "timeout", "missing", "not_run", "empty"]
    message: str = ""


# "invalid syntax (<name of the cell's file>, line 3)": the name differs between engines and tells nobody anything.
_CELL_FILE = re.compile(r"\([^()]*, line (\d+)\)$")


def without_cell_file(text: str) -> str:
    """The text of a SyntaxError with the line in its cell, and no file."""
    return _CELL_FILE.sub(r"(line \1)", text)


def exception_in_words(name: str, text: str) -> str:
    """`NameError: name 'x' is not defined`, or the name alone where the exception says nothing."""
    return (f"{name}: {without_cell_file(text)}" if text.strip() else name)[:500]


class Resources(Record):
    """What the submission cost. Seconds and bytes, as the kernel counted them."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0


class Result(Record):
    """The verdict on one submission. Written as `result.json`."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    learner: str
    exercise: str
    title: str = ""
    status: Status
    message: str = ""  # why it was rejected, what crashed; empty when graded
    score: float = 0.0
    max_score: float = 0.0
    checks: list[CheckResult] = []
    cells: list[CellResult] = []
    notes: list[str] = []  # what was put right on the way: edited locked cells, duplicated answers, …
    seed: str = ""
    engine: str = ""
    sandbox: list[str] = []  # the active layers, outermost first
    resources: Resources = Resources()
    versions: dict[str, str] = {}
    submission_sha256: str = ""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
