"""Reading one submission, which is hostile until shown otherwise.

Takes: the path of a notebook somebody handed in, and the exercise it answers.
Gives: `Submission`, the learner's answer cells and nothing else; or `Rejected` with one safe sentence.
Leaves to others: putting answers in the skeleton (`assemble`), running them (`execute`), judging (`judge`).

What is needed is checked here by hand: file, size, JSON, cells, answer cells. What is not needed (outputs,
attachments, any other metadata) is never looked at, so nothing in it can do harm or cost a learner points.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.exercise import Exercise
from autograder.release import skeleton

MAX_BYTES = 10 * 1000 * 1000
MAX_CELLS = 500

_MARKS = ("grade", "solution", "locked", "task", "points")


class Rejected(Exception):
    """The submission cannot be graded. The message is one sentence, safe to print on a terminal."""

    def __init__(self, message: str) -> None:
        super().__init__(safe_text(message, 400))


@dataclass(frozen=True)
class Submission:
    """A learner's answers to one exercise."""

    answers: dict[str, str]  # answer id -> source, in the order of the exercise; missing ones are not in it
    notes: list[str] = field(default_factory=list)  # what was put right on the way, in sentences
    missing: list[str] = field(default_factory=list)  # answer ids that the notebook does not hold
    empty: list[str] = field(
        default_factory=list
    )  # answer ids still as released (but for white space), or blank
    sha256: str = ""  # of the file's bytes


def read_submission(path: Path, exercise: Exercise, *, under: Path | None = None) -> Submission:
    """The answers in the notebook at `path`. Raises Rejected when they cannot be taken.

    The last part of `path` is never followed if it is a link. With `under`, a trusted folder above `path`, no
    part below that folder is.
    """
    data = _read(Path(path), under)
    cells = _cells(data, exercise)
    released = skeleton(exercise).cells
    taken = _take_answers(cells, exercise)
    size = sum(len(source.encode("utf-8", "replace")) for source in taken.answers.values())
    if size > exercise.limits.answer_kib * 1024:
        raise Rejected(
            f"The answers hold {size // 1024} KiB of code; "
            f"this exercise takes {exercise.limits.answer_kib} KiB at most."
        )
    return Submission(
        answers=taken.answers,
        notes=taken.notes + _notes_on_the_frame(cells, released),
        missing=taken.missing,
        empty=taken.empty,
        sha256=hashlib.sha256(data).hexdigest(),
    )


# --- the file -------------------------------------------------------------------------------------


def _read(path: Path, under: Path | None) -> bytes:
    """The file's bytes, if it is a regular file of at most MAX_BYTES."""
    try:
        handle = _open(path, under)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Rejected("The notebook is a link (or lies behind one); hand in the file itself.") from None
        raise Rejected(f"The notebook cannot be opened: {error.strerror}.") from None
    except ValueError:  # a NUL in the name, or a path outside `under`
        raise Rejected("The notebook's path is not a valid one.") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("The notebook is not a regular file; hand in an .ipynb file.")
        data = b""
        if status.st_size <= MAX_BYTES:
            with os.fdopen(os.dup(handle), "rb") as file:
                data = file.read(MAX_BYTES + 1)  # it may have grown since
        if max(len(data), status.st_size) > MAX_BYTES:
            raise Rejected(
                f"The notebook is larger than {MAX_BYTES // 10**6} MB; clear its outputs and hand it in "
                "again."
            )
        return data
    except OSError as error:
        raise Rejected(f"The notebook cannot be read: {error.strerror}.") from None
    finally:
        os.close(handle)


def _open(path: Path, under: Path | None) -> int:
    # O_NONBLOCK: opening a FIFO must not wait for a writer that never comes.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    if under is None:
        return os.open(path, flags)
    *folders, name = path.relative_to(under).parts
    if ".." in (*folders, name):
        raise ValueError("outside")
    place = os.open(under, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = inner
        return os.open(name, flags, dir_fd=place)
    finally:
        os.close(place)


# --- the JSON -------------------------------------------------------------------------------------


def _cells(data: bytes, exercise: Exercise) -> list[dict[str, Any]]:
    """The notebook's cells, each a dict; whether it is a notebook of this exercise has been checked."""
    notebook = _parse(data)
    if not isinstance(notebook, dict):
        raise Rejected("The file is JSON but not a notebook; hand in the .ipynb file as JupyterLab saved it.")
    _check_format(notebook.get("nbformat"))
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        raise Rejected("The notebook has no list of cells; hand in the .ipynb file as JupyterLab saved it.")
    if len(cells) > MAX_CELLS:
        raise Rejected(f"The notebook has {len(cells)} cells; at most {MAX_CELLS} are read.")
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            raise Rejected(
                f"Cell {number} of the notebook is not a cell; save the notebook again in JupyterLab."
            )
    _check_origin(notebook, cells, exercise)
    return cells


def _parse(data: bytes) -> Any:
    if not data.strip():
        raise Rejected("The file is empty; save the notebook in JupyterLab and hand in that .ipynb file.")
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[") and not utf_16:
        raise Rejected(
            "The file is not a notebook, only named like one; hand in the .ipynb file as JupyterLab saved it."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Rejected(
            f"The notebook is not UTF-8 text (byte {error.start}); save it again in JupyterLab."
        ) from None
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            # Numbers matter nowhere but in `nbformat` and `points`; a long one may not cost time.
            parse_int=lambda digits: int(digits) if len(digits) < 20 else 0,
            parse_float=lambda digits: float(digits) if len(digits) < 40 else 0.0,
            parse_constant=lambda name: None,  # NaN in an output is no reason to refuse an answer
        )
    except RecursionError:
        raise Rejected("The notebook's JSON is nested too deeply; save it again in JupyterLab.") from None
    except json.JSONDecodeError as error:
        raise Rejected(
            f"The notebook is damaged: it breaks off, or holds what no notebook holds, at line {error.lineno} of the "
            "file. Save it again in JupyterLab and hand it in."
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers may differ on which of two equal keys counts; what a person sees must be what is graded.
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for twice, _ in pairs:  # one pass: a hostile file may have a million keys
            if twice in seen:
                break
            seen.add(twice)
        raise Rejected(
            f"The notebook's JSON gives the key `{safe_text(twice, 40)}` twice; save it again in JupyterLab."
        )
    return made


def _check_format(major: object) -> None:
    if not isinstance(major, int) or isinstance(major, bool):
        raise Rejected(
            "The notebook does not say its format; hand in the .ipynb file as JupyterLab saved it."
        )
    if major < 4:
        raise Rejected(
            f"The notebook is in the old format {major}; convert it with "
            "`jupyter nbconvert --to notebook --nbformat 4 FILE` and hand in the result."
        )
    if major > 4:
        raise Rejected(
            f"The notebook is in format {major}, and only format 4 is read here; save it in that format and hand it in "
            "again."
        )


def _check_origin(notebook: dict[str, Any], cells: list[dict[str, Any]], exercise: Exercise) -> None:
    named = _dict(_dict(notebook.get("metadata")).get("all_aboard")).get("exercise")
    if isinstance(named, str) and named != exercise.id:
        raise Rejected(
            f"This is the notebook of the exercise {safe_text(named, 60)}, not of {exercise.id}; "
            "hand it in under its own name."
        )
    ids = set(exercise.answer_ids())
    if named is None and not any(_grade_id(cell) in ids for cell in cells):
        raise Rejected(
            f"The notebook holds none of the answer cells of {exercise.id}, so it is not a released notebook "
            "of this exercise; copy your code into the released one and hand that in."
        )


# --- the cells ------------------------------------------------------------------------------------


def _take_answers(cells: list[dict[str, Any]], exercise: Exercise) -> Submission:
    answers: dict[str, str] = {}
    notes: list[str] = []
    missing: list[str] = []
    empty: list[str] = []
    for name, stub in exercise.stub().items():
        found = [cell for cell in cells if _grade_id(cell) == name]
        usable = [source for cell in found if (source := _answer(cell)) is not None]
        if not usable:
            missing.append(name)
            notes.append(f"The answer cell `{name}` {_why_missing(found)}; it counts as not answered.")
            continue
        worked_on = [source for source in usable if not _alike(source, stub)]
        source = worked_on[-1] if worked_on else usable[0]
        if len(usable) > 1:
            which = "last one that differs from the released stub" if worked_on else "first"
            notes.append(f"The answer cell `{name}` is there {len(usable)} times; the {which} was graded.")
        answers[name], changed = _storable(source)
        if changed:
            notes.append(
                f"The answer cell `{name}` held characters no Python file can hold; \ufffd stands for them."
            )
        if not worked_on or not source.strip():
            empty.append(name)
    return Submission(answers, notes, missing, empty)


def _answer(cell: dict[str, Any]) -> str | None:
    """The source of an answer cell; None if it no longer is one."""
    if cell.get("cell_type") != "code" or _nbgrader(cell).get("solution") is not True:
        return None
    return _source(cell)


def _why_missing(found: list[dict[str, Any]]) -> str:
    if not found:
        return "is missing"
    kind = found[-1].get("cell_type")
    if kind != "code":
        return f"was changed from code to {kind if kind in ('markdown', 'raw') else 'another kind of cell'}"
    if _nbgrader(found[-1]).get("solution") is not True:
        return "is no longer marked as an answer"
    return "holds no text"


def _notes_on_the_frame(cells: list[dict[str, Any]], released: list[dict[str, Any]]) -> list[str]:
    """What the learner (or a tool) changed outside the answers. None of it reaches the grade."""
    no_effect = "this had no effect on the grade"
    notes = []
    known = set()
    for ours in released:
        marks = _nbgrader(ours)
        if not marks:
            continue  # a try-it cell: made to be changed
        name = marks["grade_id"]
        known.add(name)
        found = [cell for cell in cells if _grade_id(cell) == name]
        if marks["locked"] and not found:
            notes.append(f"The locked cell `{name}` was deleted; {no_effect}.")
        if marks["locked"] and len(found) > 1:
            notes.append(f"The locked cell `{name}` is there {len(found)} times; {no_effect}.")
        if marks["locked"] and any(not _unedited(cell, ours) for cell in found):
            notes.append(f"The locked cell `{name}` was edited; {no_effect}.")
        if any(_marks_changed(_nbgrader(cell), marks) for cell in found):
            notes.append(f"The grading marks of the cell `{name}` were changed; {no_effect}.")
    added = [cell for cell in cells if cell.get("cell_type") == "code" and _grade_id(cell) not in known]
    count = sum(bool((_source(cell) or "").strip()) for cell in added if not _is_try_it(cell))
    if count:
        what = "1 code cell was" if count == 1 else f"{count} code cells were"
        notes.append(f"{what} added to the notebook; only the answer cells are run, so {no_effect}.")
    return notes


def _unedited(cell: dict[str, Any], ours: dict[str, Any]) -> bool:
    source = _source(cell)
    same_kind = cell.get("cell_type") == ours["cell_type"]
    return same_kind and source is not None and source.rstrip() == ours["source"].rstrip()


def _marks_changed(given: dict[str, Any], ours: dict[str, Any]) -> bool:
    return any(given[key] != ours.get(key) for key in _MARKS if key in given)


def _is_try_it(cell: dict[str, Any]) -> bool:
    tags = _dict(cell.get("metadata")).get("tags")
    return isinstance(tags, list) and "try-it" in tags


def _nbgrader(cell: dict[str, Any]) -> dict[str, Any]:
    return _dict(_dict(cell.get("metadata")).get("nbgrader"))


def _grade_id(cell: dict[str, Any]) -> str | None:
    name = _nbgrader(cell).get("grade_id")
    return name if isinstance(name, str) else None


def _source(cell: dict[str, Any]) -> str | None:
    """The source as one string with \\n line ends (files may hold a list of lines); None if it is no text."""
    source = cell.get("source")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    return source.replace("\r\n", "\n").replace("\r", "\n") if isinstance(source, str) else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# --- file -----------------------------------------------------------------------------------------


def file_sha256(path: Path, most: int = 64 * 2**20) -> str:
    """SHA-256 of a regular file's first `most` bytes; "" when it cannot be read or is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        with os.fdopen(os.dup(handle), "rb") as file:
            return hashlib.sha256(file.read(most)).hexdigest()
    except OSError:
        return ""
    finally:
        os.close(handle)


# --- text -----------------------------------------------------------------------------------------


def _alike(a: str, b: str) -> bool:
    return "".join(a.split()) == "".join(b.split())


def _storable(source: str) -> tuple[str, bool]:
    """`source` with lone surrogates and NULs replaced by U+FFFD, and whether there were any.

    Neither can be stored in a Python file, nor safely passed on. Replaced, one stray character costs at most
    the line it stands in, not the whole submission.
    """
    clean = re.sub("[\x00\ud800-\udfff]", "\ufffd", source)
    return clean, clean != source


_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # window titles, links
    r"|\x1b[ -/]*[0-~]"
)


def safe_text(text: str, limit: int = 80) -> str:
    """`text` on one line of at most `limit` characters, without escapes, controls and direction marks."""
    text = _ESCAPE.sub("", text[: 4 * limit])
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
