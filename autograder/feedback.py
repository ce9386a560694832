"""A result as a person reads it: in a terminal, in a notebook, as a page.

Every string of a result may come from a stranger. In a terminal, control characters and escapes are taken out; in HTML
everything is escaped. The notebook that ran is drawn here from its sources, texts and PNG pictures only: nothing of a
learner's HTML, SVG or Markdown reaches the page, so there is nothing to sanitise (and it takes a few milliseconds,
where a full notebook converter takes a hundred).
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.verdict import CheckResult, Result

if TYPE_CHECKING:
    from nbformat import NotebookNode

MARKS = {"pass": "✓", "fail": "✗", "error": "!", "timeout": "✗", "not_run": "–"}
WORDS = {
    "pass": "passed",
    "fail": "not yet",
    "error": "the check failed",
    "timeout": "out of time",
    "not_run": "not run",
}
MOST_TEXT = 20_000  # characters shown of one output
MOST_PICTURE = 2 * 2**20  # base64 characters of one picture
_CODE = re.compile(r"`([^`\n]+)`")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def plain(text: str, limit: int = 4000) -> str:
    """`text` without terminal escapes, control characters (but line ends and tabs) and bidi overrides, at most `limit`."""
    kept = "".join(
        c
        for c in _ESCAPES.sub("", text[: 4 * limit])
        if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co")
    )
    return kept if len(kept) <= limit else kept[:limit] + "…"


def sentence(text: str, limit: int = 4000) -> Any:
    """`plain` text for a page: escaped, and set as code where it stands between backticks."""
    from markupsafe import Markup, escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(plain(text, limit)))))


def as_plain(result: Result) -> str:
    """The feedback as plain text, in lines of at most 100 characters."""
    from rich.console import Console

    # Not the notebook's own console, in which rich would show things itself and write escapes.
    text = io.StringIO()
    Console(file=text, width=100, force_terminal=False, force_jupyter=False).print(as_text(result))
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def as_text(result: Result) -> Any:
    """The feedback for a terminal: something for `rich.console.Console.print`."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    name = plain(result.title or result.exercise, 200)
    if result.status == "rejected":
        return Group(Text(f"{name}: not graded", style="bold"), Text(plain(result.message) + "\n"))
    parts: list[Any] = [
        Text(f"{name}: {points(result.score)} of {points(result.max_score)} points", style="bold")
    ]
    if result.message:
        parts.append(Text(plain(result.message)))
    for check in result.checks:
        colour = "green" if check.status == "pass" else "red"
        earned = f"  ({points(check.points)} of {points(check.max_points)}, {WORDS[check.status]})"
        parts.append(
            Text.assemble((f"\n{MARKS[check.status]} ", colour), (plain(check.title, 200), "bold"), earned)
        )
        for label, text in details(check, result):
            line = Text.assemble((f"{label}: " if label else "", "dim"), plain(text))
            parts.append(Padding(line, (0, 0, 0, 4)))
    parts += [Text(f"\n{plain(line)}", style="yellow") for line in cell_lines(result)]
    parts += [Text(f"\nNote: {plain(note)}", style="dim") for note in result.notes]
    if result.score == result.max_score and result.checks:
        parts.append(Text("\nEverything is right.", style="green"))
    return Group(*parts, Text())


def details(check: CheckResult, result: Result) -> list[tuple[str, str]]:
    """What stands below a check that is not passed: (label, text), in the order in which it helps.

    What an earlier check of `result` has said in the same words is not said again.
    """
    if check.status == "pass":
        return []
    hint = ("Hint", check.hint or "")
    said = check.says or "", check.message
    earlier = result.checks[: result.checks.index(check)]
    same = next((one for one in earlier if any(said) and said == (one.says or "", one.message)), None)
    if same is not None:
        rows = [("", f"The same as above, at “{same.title}”."), hint]
    else:
        rows = [("", said[0]), ("What came", said[1]), ("For this draw", check.case or ""), hint]
    return [(label, text) for label, text in rows if text]


def cell_lines(result: Result) -> list[str]:
    """A sentence for every answer cell that did not run well."""
    return [f"Answer cell {c.id}: {c.message}" for c in result.cells if c.status != "ok" and c.message]


def points(value: float) -> str:
    return f"{value:g}"


def as_html_fragment(result: Result) -> str:
    """The feedback for the output of a notebook's cell: no script, colours that work on light and dark."""
    return _template("fragment.html").render(**_context(result))


def as_page(result: Result, executed: NotebookNode | None) -> str:
    """feedback.html: a whole page with the verdict and, below, the learner's answers as they ran."""
    first = next((c for c in result.checks if c.status in ("fail", "timeout")), None)
    cells = (
        [_cell(cell) for cell in executed.cells if cell.cell_type == "code"] if executed is not None else []
    )
    shown = [cell for cell in cells if cell["answer"] or cell["outputs"]]
    return _template("feedback.html").render(**_context(result), first=first, cells=shown)


def _context(result: Result) -> dict[str, Any]:
    return {
        "result": result, "learner": plain(result.learner, 120), "name": plain(result.title or result.exercise, 200),
        "marks": MARKS, "words": WORDS, "details": details, "points": points, "plain": plain, "sentence": sentence,
        "cell_lines": cell_lines(result),
    }  # fmt: skip


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> Any:
    return _environment().get_template(name)


def _cell(cell: NotebookNode) -> dict[str, Any]:
    outputs = [part for output in cell.get("outputs", []) for part in _output(output)]
    answer = cell.metadata.get("all_aboard", {}).get("answer")
    return {"source": plain(cell.source, MOST_TEXT), "outputs": outputs, "answer": answer}


def _output(output: NotebookNode) -> list[dict[str, str]]:
    if output.output_type == "stream":
        return [{"kind": "text", "text": plain(output.text, MOST_TEXT)}]
    if output.output_type == "error":
        text = "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
        return [{"kind": "error", "text": plain(text, MOST_TEXT)}]
    picture = _png(output.data.get("image/png", ""))
    if picture:
        return [{"kind": "png", "text": plain(output.data.get("text/plain", ""), 200), "data": picture}]
    text = output.data.get("text/plain", "")
    return [{"kind": "text", "text": plain(text, MOST_TEXT)}] if text else []


def _png(data: str) -> str:
    """`data` again as base64 if it really is a PNG of bearable size, else ""."""
    if not data or len(data) > MOST_PICTURE:
        return ""
    try:
        raw = base64.b64decode(data.replace("\n", ""), validate=True)
    except ValueError:
        return ""
    return base64.b64encode(raw).decode() if raw.startswith(b"\x89PNG\r\n\x1a\n") else ""
