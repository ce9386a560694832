"""Exercises and courses on disk: one folder is one exercise, found by looking, never registered in a list.

Takes: `exercises/<id>/` with `exercise.toml`, `exercise.md`, `judge.py`; for authors also `wrong/`, `right/`.
Gives: `Exercise` and `Course`; every mistake in a folder is a `UserError` naming the file and the key.
Leaves to others: notebooks for people (`release`), running `judge.py` (`judge`), the content (`lint`).

Loading reads only the TOML file, so that listing a course is quick. `exercise.md` is read and validated by
the first call that needs it (`source`, `answer_ids`, `solution`, `stub`, `variants`).
"""

from __future__ import annotations

import copy
import math
import re
import tomllib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autograder.errors import UserError, did_you_mean, read_text
from autograder.statement import check_cells, drop_delimiters, read_myst, strip_solution

if TYPE_CHECKING:
    from nbformat import NotebookNode

# A file of this name marks a learner's copy of an exercise: made by `autograder release`, without solutions.
STRIPPED = "STRIPPED"

SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")

_REQUIRED: dict[str, type] = {
    "id": str, "title": str, "module": str, "lesson": str, "number": int, "minutes": int,
    "skills": list, "hints": list, "points": dict,
}  # fmt: skip
_OPTIONAL: dict[str, type] = {"limits": dict, "diagnoses": dict}
_CALLED: dict[type, str] = {str: "text", int: "a whole number", list: "a list of texts", dict: "a table"}


@dataclass(frozen=True)
class Limits:
    """What one submission may use. Seconds, MiB, ranks, KiB; nodes of a miniature supercomputer for its job scripts."""

    wall_s: float = 60
    memory_mib: int = 2048
    ranks: int = 8
    nodes: int = 0  # more than none: the exercise needs Slurm
    output_kib: int = 256
    answer_kib: int = 64  # all answer cells together


@dataclass(frozen=True)
class Variant:
    """One file of `wrong/` or `right/`: another answer, and what the judge must say about it."""

    name: str
    about: str  # the mistake (or the other way) in words: the first paragraph of the file's docstring
    answers: dict[str, str]  # every answer id; cells the file does not mention hold the reference solution
    fails: dict[str, str]  # check id -> diagnosis; empty for right/
    path: Path


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise folder. Built by `load_exercise`; the notebook is read on first use and kept."""

    id: str
    title: str
    module: str
    lesson: str
    number: int
    minutes: int
    skills: list[str]
    hints: list[str]
    points: dict[str, float]  # check id -> points, in the order of running
    limits: Limits
    diagnoses: dict[str, str]  # name -> the sentence a learner reads
    folder: Path

    @property
    def max_score(self) -> float:
        """The points of all checks together."""
        return float(sum(self.points.values()))

    @property
    def stripped(self) -> bool:
        """True for a learner's copy, which holds no solutions."""
        return (self.folder / STRIPPED).is_file()

    def source(self) -> NotebookNode:
        """`exercise.md` as a notebook (a fresh copy), answer metadata kept. UserError if it is not valid."""
        return copy.deepcopy(self._source)

    def answer_ids(self) -> list[str]:
        """The answer cells' ids, in the order of the notebook."""
        return list(self._answers)

    def solution(self) -> dict[str, str]:
        """Answer id -> source with the solution, delimiters removed. UserError in a learner's copy."""
        if self.stripped:
            raise UserError(
                f"{self.folder} is a learner's copy, which holds no solutions; use the course itself."
            )
        return {name: drop_delimiters(source) for name, source in self._answers.items()}

    def stub(self) -> dict[str, str]:
        """Answer id -> source with the solution taken out, as released."""
        return {name: strip_solution(source) for name, source in self._answers.items()}

    def variants(self, kind: Literal["wrong", "right"]) -> list[Variant]:
        """The files of `wrong/` or `right/`, by name. UserError naming the file if one cannot be read."""
        return [_variant(self, kind, path) for path in sorted((self.folder / kind).glob("*.py"))]

    @cached_property
    def _source(self) -> NotebookNode:
        path = self.folder / "exercise.md"
        notebook = read_myst(path)
        check_cells(notebook.cells, path, self.stripped)
        return notebook

    @cached_property
    def _answers(self) -> dict[str, str]:
        return {
            cell.metadata["answer"]: cell.source for cell in self._source.cells if "answer" in cell.metadata
        }


# --- courses --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """One lesson folder, `notebooks/<module>/<name>/` with its `lesson.md`."""

    path: Path  # of lesson.md
    module: str
    name: str
    title: str  # the first heading


class Course:
    """A folder with `exercises/` and `notebooks/`, or a learner's workspace with `.course/exercises/`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"There is no folder {root}; give the folder of a course with --course DIR.")

    @classmethod
    def find(cls, start: Path | None = None) -> Course:
        """The course at `start` if given; else the nearest one around the working directory; else our own.

        Raises UserError when there is none.
        """
        if start is not None:
            return cls(Path(start))
        return cls.find_from(Path.cwd())

    @classmethod
    def find_from(cls, here: Path) -> Course:
        """The nearest course at or above `here`; else our own."""
        home = Path(__file__).resolve().parent.parent
        for folder in (here, *here.parents, home):
            if _is_course(folder):
                return cls(folder)
        raise UserError(f"There is no course in {here} or above it; give one with --course DIR.")

    @property
    def is_workspace(self) -> bool:
        """True for a learner's workspace: fit for `check`, never to be trusted for `grade`."""
        return not _has_exercises(self.root / "exercises") and (self.root / ".course").is_dir()

    @property
    def exercises_folder(self) -> Path:
        """Where the exercise folders are."""
        return self.root / (".course/exercises" if self.is_workspace else "exercises")

    def exercises(self) -> list[Exercise]:
        """Every exercise, by number. UserError naming the first folder that is not valid."""
        loaded = [load_exercise(folder) for folder in _exercise_folders(self.exercises_folder)]
        return sorted(loaded, key=lambda exercise: (exercise.number, exercise.id))

    def exercise(self, id: str) -> Exercise:
        """One exercise; the other folders are not read. UserError with the closest names if there is none."""
        folders = {folder.name: folder for folder in _exercise_folders(self.exercises_folder)}
        if id in folders:
            return load_exercise(folders[id])
        raise UserError(f"There is no exercise {id!r} in {self.exercises_folder}{did_you_mean(id, folders)}.")

    def lessons(self) -> list[Lesson]:
        """Every lesson, by module and name. A lesson without a heading takes its folder's name as title."""
        paths = sorted((self.root / "notebooks").glob("*/*/lesson.md"))
        return [Lesson(p, p.parent.parent.name, p.parent.name, _heading(p) or p.parent.name) for p in paths]


def _is_course(folder: Path) -> bool:
    return _has_exercises(folder / "exercises") or (folder / ".course").is_dir()


def _has_exercises(folder: Path) -> bool:
    return any(folder.glob("*/exercise.toml"))


def _exercise_folders(root: Path) -> list[Path]:
    # Any of the three files makes a folder an exercise: a forgotten exercise.toml is an error, not a silence.
    marks = ("exercise.toml", "exercise.md", "judge.py")
    return sorted(
        {path.parent for mark in marks for path in root.glob(f"*/{mark}") if path.parent.name[0] != "."}
    )


def _heading(path: Path) -> str:
    fence = ""
    lines = iter(read_text(path).splitlines())
    for number, line in enumerate(lines):
        if number == 0 and line == "---":  # front matter
            for inner in lines:
                if inner == "---":
                    break
        elif mark := re.match(r"(`{3,}|~{3,})", line):
            fence = "" if fence and line.startswith(fence) else fence or mark[1]
        elif not fence and (found := re.match(r"#{1,6}\s+(.+?)\s*#*$", line)):
            return found[1]
    return ""


# --- exercise.toml --------------------------------------------------------------------------------


def load_exercise(folder: Path) -> Exercise:
    """The exercise in `folder`. UserError naming file and key for anything wrong in `exercise.toml`."""
    folder = Path(folder)
    path = folder / "exercise.toml"
    for needed in (path, folder / "exercise.md", folder / "judge.py"):
        if not needed.is_file():
            raise UserError(f"{needed} is missing: an exercise folder needs it.")
    try:
        table = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}.") from None
    _check_keys(table, path)
    if table["id"] != folder.name:
        raise UserError(
            f"{path}: `id` is {table['id']!r} but the folder is named {folder.name!r}; make them equal."
        )
    return Exercise(
        **{
            key: table[key]
            for key in ("id", "title", "module", "lesson", "number", "minutes", "skills", "hints")
        },
        points={check: float(points) for check, points in table["points"].items()},
        limits=_limits(table.get("limits", {}), path),
        diagnoses=table.get("diagnoses", {}),
        folder=folder,
    )


def _check_keys(table: dict[str, Any], path: Path) -> None:
    known = _REQUIRED | _OPTIONAL
    for key, value in table.items():
        if key not in known:
            raise UserError(f"{path}: unknown key `{key}`{did_you_mean(key, known)}.")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise UserError(f"{path}: `{key}` must be {_CALLED[known[key]]}, not {value!r}.")
    for key in _REQUIRED:
        if key not in table:
            raise UserError(f"{path}: the key `{key}` is missing.")
    for key in ("id", "module", "lesson"):
        if not SLUG.fullmatch(table[key]):
            raise UserError(
                f"{path}: `{key}` must be lower-case letters, digits and hyphens, not {table[key]!r}."
            )
    for key in ("number", "minutes"):
        if table[key] < 1:
            raise UserError(f"{path}: `{key}` must be at least 1, not {table[key]}.")
    if not table["title"].strip():
        raise UserError(f"{path}: `title` is empty.")
    for key in ("skills", "hints"):
        _check_texts(table[key], key, path)
    _check_points(table["points"], path)
    for name, sentence in table.get("diagnoses", {}).items():
        if not SLUG.fullmatch(name):
            raise UserError(
                f"{path}: `diagnoses.{name}` must be named in lower-case letters, digits and hyphens."
            )
        if not isinstance(sentence, str) or not sentence.strip():
            raise UserError(
                f"{path}: `diagnoses.{name}` must be a sentence for the learner, not {sentence!r}."
            )


def _check_texts(texts: list[Any], key: str, path: Path) -> None:
    if not texts:
        raise UserError(f"{path}: `{key}` is empty; give at least one.")
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"{path}: entry {number} of `{key}` must be a text that is not empty, not {text!r}."
            )


def _check_points(points: dict[str, Any], path: Path) -> None:
    if not points:
        raise UserError(f"{path}: `points` names no check; give every check of judge.py its points.")
    for check, value in points.items():
        if not check.isidentifier():
            raise UserError(f"{path}: `points.{check}` must be the name of a function in judge.py.")
        if not _is_positive(value, int, float):
            raise UserError(f"{path}: `points.{check}` must be a number above 0, not {value!r}.")


def _limits(table: dict[str, Any], path: Path) -> Limits:
    defaults = {field.name: field.default for field in fields(Limits)}
    for key, value in table.items():
        if key not in defaults:
            raise UserError(f"{path}: unknown key `limits.{key}`{did_you_mean(key, defaults)}.")
        kinds = (int, float) if key == "wall_s" else (int,)
        if not _is_positive(value, *kinds):
            what = "number" if key == "wall_s" else "whole number"
            raise UserError(f"{path}: `limits.{key}` must be a {what} above 0, not {value!r}.")
    return Limits(**table)


def _is_positive(value: object, *kinds: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    number: Any = value
    return bool(math.isfinite(number) and number > 0)


# --- wrong/ and right/ ----------------------------------------------------------------------------

_DOCSTRING = re.compile(r'\A(?:[ \t]*(?:#(?! %%).*)?\n)*[rR]?("""|\'\'\')(.*?)\1[ \t]*(?:\n|\Z)', re.DOTALL)
_MARKER = re.compile(r"^# %%(.*)$", re.MULTILINE)
_FAILS = re.compile(r"fails:\s*(\w+)\s+as\s+([a-z0-9-]+)\s*")


def _variant(exercise: Exercise, kind: str, path: Path) -> Variant:
    """Read one percent-format file; the docstring comes first, then `# %% <answer-id>` sections."""
    text = read_text(path)
    found = _DOCSTRING.match(text)
    if not found:
        raise UserError(
            f"{path} must begin with a docstring in triple quotes that says what this answer does."
        )
    docstring, body = found[2], text[found.end() :]
    about = " ".join(docstring.strip().split("\n\n")[0].split())
    if not about or about.startswith("fails:"):
        raise UserError(f"{path}: the docstring must begin with a paragraph that says what this answer does.")
    fails = _fails(exercise, docstring, path)
    if kind == "wrong" and not fails:
        raise UserError(
            f"{path}: the docstring needs a line `fails: <check> as <diagnosis>` for each failing check."
        )
    if kind == "right" and fails:
        raise UserError(f"{path}: an answer in right/ passes every check; remove its `fails:` lines.")
    answers = exercise.solution() | _sections(exercise.answer_ids(), body, path)
    return Variant(name=path.stem, about=about, answers=answers, fails=fails, path=path)


def _fails(exercise: Exercise, docstring: str, path: Path) -> dict[str, str]:
    fails: dict[str, str] = {}
    for line in map(str.strip, docstring.splitlines()):
        if not re.match(r"fails\b\s*:", line):
            continue
        found = _FAILS.fullmatch(line)
        if not found:
            raise UserError(f"{path}: `{line}` must read `fails: <check> as <diagnosis>`.")
        check, diagnosis = found.groups()
        if check not in exercise.points:
            raise UserError(f"{path}: there is no check `{check}`{did_you_mean(check, exercise.points)}.")
        if check in fails:
            raise UserError(f"{path}: the check `{check}` is named twice.")
        fails[check] = diagnosis
    return fails


def _sections(ids: list[str], body: str, path: Path) -> dict[str, str]:
    before, *rest = _MARKER.split(body)
    if not rest:
        if len(ids) > 1:
            raise UserError(
                f"{path}: mark each answer with a line `# %% <answer-id>`; the ids are {', '.join(ids)}."
            )
        rest, before = [ids[0], body], ""
    if any(line.strip() and not line.lstrip().startswith("#") for line in before.splitlines()):
        raise UserError(f"{path}: there is code before the first `# %% <answer-id>` line; move it below.")
    answers: dict[str, str] = {}
    for name, source in zip(map(str.strip, rest[::2]), rest[1::2], strict=True):
        if name not in ids:
            raise UserError(f"{path}: `# %% {name}` names no answer cell; the ids are {', '.join(ids)}.")
        if name in answers:
            raise UserError(f"{path}: the answer `{name}` is given twice.")
        if not source.strip():
            raise UserError(f"{path}: the answer `{name}` is empty.")
        answers[name] = source.strip("\n").rstrip()
    return answers
