"""Run an assembled notebook by papermill, in the sandbox, with either of two engines.

`fork`: papermill's loop runs here and each cell in the living process of the first room. Fast.
`kernel`: papermill itself runs in the room, as anybody runs it: nbclient and a Jupyter kernel. The reference.

Both leave a living process behind that has run the cells, and both give the same outputs and the same cell results.
What comes out of the room is checked before it becomes part of a notebook.
"""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autograder.notebook_format import nbformat  # isort: skip
import papermill
from nbformat import NotebookNode
from papermill.engines import papermill_engines
from papermill.exceptions import PapermillExecutionError

from autograder.engine import ForkEngine
from autograder.exercise import Limits
from autograder.verdict import CellResult, exception_in_words, without_cell_file

if TYPE_CHECKING:
    from autograder.sandbox.room_host import SandboxRoom

logging.getLogger("papermill").setLevel(logging.ERROR)  # "unknown parameter", once per notebook

papermill_engines.register("fork", ForkEngine)  # also an entry point, for papermill used by itself

PARAMETERS = {"grading": True}
IMPORT_S = 30.0  # that libraries may take to be imported on a machine that is busy with other things
START_S = 15.0 + IMPORT_S  # that a Jupyter kernel may take, which imports them, too
GONE = "It ended the process (exit, a crash, or the memory limit)."
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
KINDS = {
    "stream": ("name", "text"),
    "display_data": ("data", "metadata"),
    "execute_result": ("data", "metadata", "execution_count"),
    "error": ("ename", "evalue", "traceback"),
}
INERT = ("text/plain", "image/png", "image/jpeg")  # what a notebook application shows and never runs


@dataclass
class Executed:
    """A notebook that was run.

    sources: the code that every further rank runs before it is called. process_ended: the process that ran the cells did
    not live to the end, whether by their doing or not.
    """

    notebook: NotebookNode
    cells: list[CellResult] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    seconds: float = 0.0
    process_ended: bool = False


def execute(assembled: NotebookNode, room: SandboxRoom, engine: str, limits: Limits) -> Executed:
    """Run `assembled` in `room` with `engine` ("fork" or "kernel")."""
    start = time.monotonic()
    run = _Execution(room, limits)
    if engine == "fork":
        notebook = run.by_fork(assembled)
    elif engine == "kernel":
        notebook = run.by_kernel(assembled)
    else:
        raise ValueError(f"engine {engine!r}")
    cells = []
    for index, cell in enumerate(notebook.cells):
        answer = cell.metadata.get("all_aboard", {}).get("answer")
        if answer:
            status, message = run.outcome.get(index, ("not_run", "This cell did not run."))
            cells.append(CellResult(id=answer, status=status, message=message))
    sources = [
        c.source for i, c in enumerate(notebook.cells) if c.cell_type == "code" and i not in run.deadly
    ]
    return Executed(notebook, cells, sources, time.monotonic() - start, run.process_ended)


class _Execution:
    def __init__(self, room: SandboxRoom, limits: Limits) -> None:
        self.room, self.limits = room, limits
        self.cell_timeout_s = float(int(max(2.0, min(20.0, limits.wall_s / 3))))
        self.deadline = time.monotonic() + limits.wall_s
        self.outcome: dict[int, tuple[Any, str]] = {}  # cell index → (status, message)
        self.deadly: set[int] = set()  # cells that ended or hung the process: nobody runs them again
        self.process_ended = False
        self.notebook: NotebookNode | None = None
        self._ran: list[str] = []

    # --- fork

    def by_fork(self, assembled: NotebookNode) -> NotebookNode:
        try:
            papermill.execute_notebook(
                assembled, None, parameters=PARAMETERS, engine_name="fork", progress_bar=False, run=self
            )
        except PapermillExecutionError:
            pass  # a cell raised: papermill's way to say so; the cells after it have run
        assert self.notebook is not None
        self.room.cells = list(self._ran)
        return self.notebook

    def cell(self, cell: NotebookNode, index: int) -> bool:
        """Run one code cell; True when it went well."""
        from autograder.sandbox.room_host import RoomGone

        if _blank(cell):
            return self._note(index, cell)
        if time.monotonic() > self.deadline:
            return self._too_late(index)
        try:
            reply = self.room.run_cell(cell.source, self.cell_timeout_s)
        except TimeoutError:
            return self._deadly(index, "timeout", self._stopped())
        except RoomGone:
            self.process_ended = True
            return self._deadly(index, "error", GONE)
        self._ran.append(cell.source)
        cell.outputs = checked_outputs(reply.get("outputs"), self.limits.output_kib * 1024)
        cell.execution_count = _count(reply.get("count"))
        return self._note(index, cell)

    def _deadly(self, index: int, status: Any, message: str) -> bool:
        """Go on in a fresh process that has run what came before."""
        from autograder.sandbox.room_host import RoomGone

        self.deadly.add(index)
        self.outcome[index] = (status, message)
        self.room.forget_first_room()
        for source in self._ran:
            try:
                self.room.run_cell(source, self.cell_timeout_s)
            except (TimeoutError, RoomGone) as error:
                self.process_ended = self.process_ended or isinstance(error, RoomGone)
                break
        return False

    def _too_late(self, index: int) -> bool:
        self.deadly.add(index)
        self.outcome[index] = ("not_run", "The time limit was reached before this cell.")
        return False

    def _stopped(self) -> str:
        return f"It ran longer than {self.cell_timeout_s:.0f} s and was stopped."

    def _note(self, index: int, cell: NotebookNode) -> bool:
        errors = [o for o in cell.outputs if o.output_type == "error"]
        if not errors:
            self.outcome[index] = ("ok", "")
            return True
        self.outcome[index] = ("error", exception_in_words(errors[-1].ename, errors[-1].evalue))
        return False

    # --- kernel

    def by_kernel(self, assembled: NotebookNode) -> NotebookNode:
        """Stock papermill in the room; again without a cell that ended or hung the kernel, until one is left alive.

        What counts against the time limit is what the cells take: kernels start as fast as the machine lets them.
        """
        from autograder.errors import SandboxError

        # With a cell for the parameters of its own, the notebook has the same cells under both engines.
        notebook = papermill.execute_notebook(assembled, None, parameters=PARAMETERS, prepare_only=True)
        code = [i for i, c in enumerate(notebook.cells) if c.cell_type == "code"]
        for index in code:
            if _blank(notebook.cells[index]):  # papermill does not run those
                self._note(index, notebook.cells[index])
        left_s = self.limits.wall_s
        while True:
            live = [i for i in code if i not in self.deadly and not _blank(notebook.cells[i])]
            sent = nbformat.v4.new_notebook(
                cells=[notebook.cells[i] for i in live], metadata=notebook.metadata
            )
            sent.cells.append(
                nbformat.v4.new_code_cell("import autograder.sandbox.agent as _a; _a.serve_in_kernel()")
            )
            saved = self.room.run_papermill(
                nbformat.writes(sent),
                [self._seconds(notebook.cells[i]) for i in live],
                max(5.0, left_s) + START_S,
            )
            left_s -= saved.cells_s
            done = self._take_outputs(notebook, live, saved.text)
            if not saved.ended:
                break
            if not saved.begun:
                raise SandboxError(f"the Jupyter kernel did not start: {saved.ended}")
            done = max(done, saved.begun - 1)  # all that is known where nothing was saved
            self.process_ended = self.process_ended or saved.ended == "died"
            if done >= len(live):
                break
            culprit = live[done]
            self.deadly.add(culprit)
            notebook.cells[culprit].outputs, notebook.cells[culprit].execution_count = [], None
            self.outcome[culprit] = (
                ("timeout", self._stopped()) if saved.ended == "timeout" else ("error", GONE)
            )
            if left_s <= 0:
                for index in live[done + 1 :]:
                    self._too_late(index)
                break
        self.room.cells = [notebook.cells[i].source for i in code if i not in self.deadly]
        return notebook

    def _seconds(self, cell: NotebookNode) -> float:
        """That papermill gives a cell. What is given may import more than a fresh kernel has, and half an import is of no use."""
        given = "answer" not in cell.metadata.get("all_aboard", {})
        return self.cell_timeout_s + (IMPORT_S if given else 0)

    def _take_outputs(self, notebook: NotebookNode, live: list[int], text: str) -> int:
        """Copy outputs from what papermill saved, cell by cell in order; how many cells were complete."""
        try:
            saved = json.loads(text)["cells"] if text else []
        except (ValueError, KeyError, TypeError, RecursionError):
            saved = []
        if type(saved) is not list:
            saved = []
        # Where a cell failed, papermill puts one with words above it.
        saved = [raw for raw in saved if not (type(raw) is dict and raw.get("cell_type") == "markdown")]
        # Papermill ran a copy of our cells; anything else in the file is not ours and not looked at.
        done = 0
        for index, raw in zip(live, saved, strict=False):
            if type(raw) is not dict or type(raw.get("metadata")) is not dict:
                break
            timing = raw["metadata"].get("execution")
            if type(timing) is not dict or "shell.execute_reply" not in timing:
                break  # papermill marks every cell "completed" in the end; to those that ran the kernel replied
            cell = notebook.cells[index]
            cell.outputs = checked_outputs(raw.get("outputs"), self.limits.output_kib * 1024)
            cell.execution_count = _count(raw.get("execution_count"))
            self._note(index, cell)
            done += 1
        return done


def _blank(cell: NotebookNode) -> bool:
    return not cell.source.strip()


def checked_outputs(raw: Any, limit: int) -> list[NotebookNode]:
    """Outputs from the room as notebook outputs: known kinds, inert data, at most `limit` bytes in all."""
    kept: list[NotebookNode] = []
    size = 0
    for item in raw if type(raw) is list else []:
        kind = item.get("output_type") if type(item) is dict else None
        if (
            type(kind) is not str
            or kind not in KINDS
            or not all(key in item for key in KINDS[kind] if key != "metadata")
        ):
            continue
        size += len(str(item))
        if size > limit:
            kept.append(nbformat.v4.new_output("stream", name="stderr", text="[more output was left out]\n"))
            break
        if kind == "stream":
            name = "stderr" if item["name"] == "stderr" else "stdout"
            kept.append(nbformat.v4.new_output(kind, name=name, text=_text(item["text"])))
        elif kind == "error":
            trace = item["traceback"] if type(item["traceback"]) is list else []
            kept.append(
                nbformat.v4.new_output(
                    kind,
                    ename=_text(item["ename"]),
                    evalue=without_cell_file(_text(item["evalue"])),
                    traceback=[ANSI.sub("", _text(t)) for t in trace],
                )
            )
        else:
            data = item["data"] if type(item["data"]) is dict else {}
            plain = {k: _text(data[k]) for k in INERT if k in data} or {
                "text/plain": "[left out: no text or picture]"
            }
            extra = (
                {"execution_count": _count(item.get("execution_count"))} if kind == "execute_result" else {}
            )
            kept.append(nbformat.v4.new_output(kind, data=plain, metadata={}, **extra))
    return kept


def _text(value: Any) -> str:
    if type(value) is list:
        return "".join(v for v in value if type(v) is str)
    return value if type(value) is str else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None
