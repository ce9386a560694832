"""From a course to what a learner receives: notebooks without solutions and without outputs.

`skeleton` makes the released notebook of one exercise; `release` lays out a whole workspace:

    OUT/exercises/<id>.ipynb            to be answered
    OUT/lessons/<module>/<lesson>.ipynb to be read and run, with the files that lie beside the lesson
    OUT/.course/exercises/<id>/         what `autograder.check` needs, solutions taken out
    OUT/README.md

A released file is deterministic (same course, same bytes). A learner's notebook is never overwritten.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.errors import UserError
from autograder.exercise import STRIPPED, Course, Exercise, Lesson
from autograder.statement import read_myst, strip_solution

if TYPE_CHECKING:
    from nbformat import NotebookNode

RELEASE = "1"  # version of the notebook's `all_aboard` metadata
_KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}

_README = """\
# Your workspace

- `lessons/` holds the lessons. Open one in JupyterLab and run it from the top.
- `exercises/` holds the exercises. Write your code where a cell says `# YOUR CODE HERE`.
- The last cell of an exercise checks your answers and says what to look at next. In a terminal the same is
  `autograder check exercises/NAME.ipynb`.

Only the answer cells are graded: helper functions you need belong inside them. Other cells you add or change
stay yours, and have no effect on the grade. `.course/` is what the checks need; leave it where it is.
"""

_MARK = """\
This folder was made by `autograder release` for learners: the solutions are taken out.
Edit the exercise in the course it came from.
"""


@dataclass
class Released:
    """What `release` did. Iterating gives the written files."""

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(
        default_factory=list
    )  # a learner's own work, different from ours: left as it was
    unchanged: list[Path] = field(default_factory=list)

    def __iter__(self) -> Iterator[Path]:
        return iter(self.written)

    def __len__(self) -> int:
        return len(self.written)


def skeleton(exercise: Exercise) -> NotebookNode:
    """The released notebook of `exercise`: nbformat 4.5, nbgrader's metadata of schema 3, no outputs.

    Statement, given code and the last check cell are locked; answer cells hold stubs; `try-it` cells carry no
    nbgrader metadata, since a learner may play with them.
    """
    stubs = exercise.stub()
    counts: dict[str, int] = {}
    cells = []
    for cell in exercise.source().cells:
        tags = list(cell.metadata.get("tags", []))
        answer = cell.metadata.get("answer")
        if answer is not None:
            cells.append(_cell("code", stubs[answer], answer, _marks(answer, solution=True), tags))
            continue
        kind = "statement" if cell.cell_type != "code" else "try-it" if "try-it" in tags else "given"
        if "parameters" in tags:
            name = "parameters"
        else:
            counts[kind] = counts.get(kind, 0) + 1
            name = f"{kind}-{counts[kind]}"
        marks = {} if kind == "try-it" else _marks(name)
        cells.append(_cell(cell.cell_type, cell.source, name, marks, tags))
    check = f'import autograder\n\nautograder.check("{exercise.id}")'
    cells.append(_cell("code", check, "check", _marks("check", grade=True, points=exercise.max_score), []))
    return _notebook(cells, {"exercise": exercise.id, "release": RELEASE})


def release(course: Course, ids: Iterable[str] | None, out: Path) -> Released:
    """Write (or complete) a learner's workspace in `out`.

    `ids` names the exercises, whose lessons come with them; none means every exercise and every lesson.
    Raises UserError for an unknown or invalid exercise (nothing is written then) and an unwritable `out`.
    """
    out = Path(out)
    if out.resolve() == course.root.resolve() or any((out / "exercises").glob("*/exercise.toml")):
        raise UserError(f"{out} is a course; give --out a folder of its own for the learner's workspace.")
    wanted = list(ids or [])
    exercises = [course.exercise(id) for id in dict.fromkeys(wanted)] if wanted else course.exercises()
    lessons = course.lessons()
    if wanted:
        places = {(exercise.module, exercise.lesson) for exercise in exercises}
        lessons = [lesson for lesson in lessons if (lesson.module, lesson.name) in places]

    theirs: dict[Path, bytes] = {Path("README.md"): _README.encode()}  # a learner may change these
    ours: dict[Path, bytes] = {}  # these are replaced
    for exercise in exercises:
        theirs[Path("exercises", f"{exercise.id}.ipynb")] = _bytes(skeleton(exercise))
        for path in _pictures(exercise):
            _add(ours, Path("exercises", path), exercise.folder / path)
        ours |= _stripped(exercise)
    for lesson in lessons:
        theirs[Path("lessons", lesson.module, f"{lesson.name}.ipynb")] = _bytes(_lesson(lesson))
        for path in _beside(lesson.path):
            _add(ours, Path("lessons", lesson.module, path), lesson.path.parent / path)
    return _write_all(out, ours, theirs)


# --- notebooks ------------------------------------------------------------------------------------


def _marks(name: str, **changes: Any) -> dict[str, Any]:
    """nbgrader's schema-3 metadata for one cell: locked unless it is a solution."""
    marks = {
        "schema_version": 3,
        "grade_id": name,
        "grade": False,
        "solution": False,
        "task": False,
    } | changes
    return marks | {"locked": not marks["solution"]}


def _cell(kind: str, source: str, name: str, marks: dict[str, Any], tags: list[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if marks:
        metadata = {"nbgrader": marks, "deletable": False}
        if marks["locked"]:
            metadata["editable"] = False
    if tags:
        metadata["tags"] = tags
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": metadata, "source": source}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell


def _notebook(cells: list[dict[str, Any]], about: dict[str, str]) -> NotebookNode:
    from autograder.notebook_format import nbformat

    metadata = {"all_aboard": about, "kernelspec": dict(_KERNEL), "language_info": {"name": "python"}}
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells})


def _lesson(lesson: Lesson) -> NotebookNode:
    cells = []
    for number, cell in enumerate(read_myst(lesson.path).cells, 1):
        source = _relink(cell.source, lesson) if cell.cell_type == "markdown" else cell.source
        cells.append(
            _cell(cell.cell_type, source, f"cell-{number:03d}", {}, list(cell.metadata.get("tags", [])))
        )
    return _notebook(cells, {"lesson": f"{lesson.module}/{lesson.name}", "release": RELEASE})


def _relink(source: str, lesson: Lesson) -> str:
    """Links between source folders, turned into links between released notebooks."""
    here = f"lessons/{lesson.module}"

    def target(found: re.Match[str]) -> str:
        origin = os.path.normpath(f"notebooks/{lesson.module}/{lesson.name}/{found[1]}")
        if place := re.fullmatch(r"notebooks/([^/]+)/([^/]+)/lesson\.(?:md|ipynb)", origin):
            path = f"lessons/{place[1]}/{place[2]}.ipynb"
        elif place := re.fullmatch(r"exercises/([^/]+)/exercise\.(?:md|ipynb)", origin):
            path = f"exercises/{place[1]}.ipynb"
        else:
            return found[0]
        return f"]({os.path.relpath(path, here)}{found[2] or ''})"

    # The glossary is a page of the book; in a notebook its terms are words.
    source = re.sub(r"\{term\}`([^`<]+?)(?:\s*<[^>`]+>)?`", r"\1", source)
    return re.sub(r"\]\(([^)\s:#]+)(#[^)\s]*)?\)", target, source)


def _bytes(notebook: NotebookNode) -> bytes:
    from autograder.notebook_format import nbformat

    nbformat.validate(notebook)
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


# --- files ----------------------------------------------------------------------------------------


def _stripped(exercise: Exercise) -> dict[Path, bytes]:
    """The learner's copy of an exercise folder: no solutions, no wrong/ and right/."""
    place = Path(".course", "exercises", exercise.id)
    exercise.answer_ids()  # validates: after it, delimiters stand in answer cells only, and in pairs
    files = {place / STRIPPED: _MARK.encode()}
    for name in ("exercise.toml", "exercise.md", "judge.py", "drive.py"):
        path = exercise.folder / name
        if path.is_file():
            files[place / name] = path.read_bytes()
    text = files[place / "exercise.md"].decode().replace("\r\n", "\n")
    files[place / "exercise.md"] = strip_solution(text).encode()
    return files


_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)|\{(?:figure|image)\}\s+(\S+)|<img[^>]*\bsrc=[\"']([^\"']+)")


def _pictures(exercise: Exercise) -> list[str]:
    """Local files that the statement shows, relative to the exercise folder."""
    text = "\n".join(cell.source for cell in exercise.source().cells if cell.cell_type == "markdown")
    names = ["".join(found.groups(default="")) for found in _PICTURE.finditer(text)]
    local = [name for name in dict.fromkeys(names) if not re.match(r"[a-z]+:|/|#", name)]
    for name in local:
        path = exercise.folder / name
        inside = path.resolve().is_relative_to(exercise.folder.resolve())
        if not inside or not path.is_file():
            raise UserError(
                f"{exercise.folder / 'exercise.md'} shows `{name}`, which is not a file in its folder."
            )
    return local


def _beside(lesson: Path) -> list[str]:
    """Files that lie beside lesson.md, relative to it; hidden files, caches and links stay behind."""
    found = []
    for path in sorted(lesson.parent.rglob("*")):
        name = path.relative_to(lesson.parent)
        if path == lesson or any(part.startswith((".", "__pycache__")) for part in name.parts):
            continue
        if path.is_file() and not path.is_symlink():
            found.append(name.as_posix())
    return found


def _add(files: dict[Path, bytes], place: Path, path: Path) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if files.setdefault(place, data) != data:
        raise UserError(f"{path} and another file would both be released as {place}; rename one of them.")


def _write_all(out: Path, ours: dict[Path, bytes], theirs: dict[Path, bytes]) -> Released:
    done = Released()
    try:
        for place, data in (ours | theirs).items():
            path = out / place
            if path.is_file() and path.read_bytes() == data:
                done.unchanged.append(path)
            elif os.path.lexists(path) and place in theirs:
                done.kept.append(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, data)
                done.written.append(path)
        for folder in {path.parent for path in ours if path.parts[0] == ".course"}:
            for path in (out / folder).glob("*.py"):  # of an earlier release: a drive.py that is gone, say
                if folder / path.name not in ours:
                    path.unlink()
    except OSError as error:
        raise UserError(
            f"{error.filename or out} cannot be written: {error.strerror}; choose another --out."
        ) from None
    return done


def write_atomic(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all: a reader sees the old file or the new one. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
