"""An exercise.md: a MyST notebook whose answer cells hold the solution between two delimiters.

Reads it, takes the solution out or leaves only it, and says in a sentence what an author has got wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from autograder.errors import UserError, read_text

if TYPE_CHECKING:
    from nbformat import NotebookNode

ANSWER_ID = re.compile(
    r"[a-z0-9][a-z0-9_-]{0,63}"
)  # becomes a cell id of nbformat 4.5: at most 64 characters
# Names that `release` gives to the cells around the answers.
RESERVED_ID = re.compile(r"check|parameters|(?:statement|given|try-it)-\d+")
_DELIMITER = re.compile(r"^([ \t]*)### (BEGIN|END) SOLUTION[ \t]*$")
# Anything that was probably meant as a delimiter: taken for a comment, it would publish the solution.
_NEARLY = re.compile(r"^\s*#+\s*(?:BEGIN|END)\s*_?SOLUTIONS?\b", re.IGNORECASE)


def read_myst(path: Path) -> NotebookNode:
    """A MyST Markdown file as a notebook of format 4. UserError if the file is missing or not MyST."""
    text = read_text(path)
    import autograder.notebook_format  # isort: skip  # noqa: F401
    import jupytext  # here: a quarter of a second that `--help` and listings need not pay

    try:
        return jupytext.reads(text, fmt={"extension": ".md", "format_name": "myst"})
    except Exception as error:  # whatever its YAML and Markdown parsers raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a MyST notebook: {reason}.") from None


def strip_solution(source: str) -> str:
    """`source` with each solution replaced by the stub's two lines, at the delimiter's indentation."""
    lines: list[str] = []
    inside = False
    for line in source.split("\n"):
        found = _DELIMITER.match(line)
        if found and found[2] == "BEGIN":
            inside = True
            lines += [f"{found[1]}# YOUR CODE HERE", f"{found[1]}raise NotImplementedError()"]
        elif found:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


def drop_delimiters(source: str) -> str:
    """`source` without the delimiter lines: the reference solution."""
    return "\n".join(line for line in source.split("\n") if not _DELIMITER.match(line))


def check_cells(cells: list[NotebookNode], path: Path, stripped: bool) -> None:
    """UserError unless the cells of the exercise.md at `path` are an exercise's. stripped: a copy without solutions."""
    seen: set[str] = set()
    parameters = 0
    for number, cell in enumerate(cells, 1):
        where = f"{path}, cell {number}"
        tags = cell.metadata.get("tags", [])  # a list of texts: jupytext has seen to it
        parameters += "parameters" in tags
        if "answer" in cell.metadata:
            name = cell.metadata["answer"]
            _check_answer(cell, name, tags, where, stripped)
            if name in seen:
                raise UserError(
                    f"{where}: the answer id `{name}` is used twice; every answer cell needs its own."
                )
            seen.add(name)
        elif any(_DELIMITER.match(line) for line in cell.source.split("\n")):
            raise UserError(f"{where} holds a solution delimiter but is no answer cell; add `:answer: <id>`.")
    if not seen:
        raise UserError(f"{path} has no answer cell; give a code cell the option `:answer: <id>`.")
    if parameters > 1:
        raise UserError(f"{path} has {parameters} cells tagged `parameters`; keep one.")


def _check_answer(cell: NotebookNode, name: object, tags: list[str], where: str, stripped: bool) -> None:
    if not isinstance(name, str) or not ANSWER_ID.fullmatch(name):
        raise UserError(f"{where}: the answer id must be lower-case letters, digits, - and _, not {name!r}.")
    if RESERVED_ID.fullmatch(name):
        raise UserError(f"{where}: the answer id `{name}` is one that released cells use; choose another.")
    if cell.cell_type != "code":
        raise UserError(f"{where}: the answer `{name}` must be a code cell.")
    if {"parameters", "try-it"} & set(tags):
        raise UserError(f"{where}: the answer `{name}` cannot also be tagged `parameters` or `try-it`.")
    if not stripped:
        _check_delimiters(cell.source, f"{where}: the answer `{name}`")


def _check_delimiters(source: str, what: str) -> None:
    inside = False
    regions = 0
    held = ""
    for line in source.split("\n"):
        found = _DELIMITER.match(line)
        if found and (found[2] == "BEGIN") == inside:
            missing = "### END SOLUTION" if inside else "### BEGIN SOLUTION"
            raise UserError(f"{what} has a `{line.strip()}` without its `{missing}`.")
        if found and inside and not held.strip():
            raise UserError(f"{what} has nothing between its solution delimiters.")
        if found:
            inside = not inside
            regions += inside
            held = ""
        elif _NEARLY.match(line):
            raise UserError(
                f"{what}: `{line.strip()}` must be written exactly ### BEGIN SOLUTION or ### END SOLUTION."
            )
        elif inside:
            held += line
    if inside:
        raise UserError(f"{what} has a `### BEGIN SOLUTION` without its `### END SOLUTION`.")
    if not regions:
        raise UserError(f"{what} has no solution; put it between ### BEGIN SOLUTION and ### END SOLUTION.")
