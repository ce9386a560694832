"""Run notebook cells in an IPython shell and collect their outputs as a notebook would hold them. Not trusted."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

MOST_OUTPUT = 2**20  # bytes kept of one cell


class Outputs:
    """The outputs of one cell, in order, cut off when they grow too large."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._size = 0

    def add(self, item: dict[str, Any], size: int) -> None:
        if self._size > MOST_OUTPUT:
            return
        self._size += size + 64
        if self._size > MOST_OUTPUT:
            item = {"output_type": "stream", "name": "stderr", "text": "\n[more output was left out]\n"}
        last = self.items[-1] if self.items else {}
        if item["output_type"] == "stream" and (last.get("output_type"), last.get("name")) == (
            "stream",
            item["name"],
        ):
            last["text"] += item["text"]
        else:
            self.items.append(item)


class _Stream(io.TextIOBase):
    def __init__(self, shell: RoomShell, name: str) -> None:
        self.shell, self._name = shell, name

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self.shell.outputs.add({"output_type": "stream", "name": self._name, "text": text}, len(text))
        return len(text)

    def fileno(self) -> int:
        return 1 if self._name == "stdout" else 2


class _Publisher(DisplayPublisher):
    def publish(self, data: Any, metadata: Any = None, **_: Any) -> None:  # type: ignore[override]
        self.shell.outputs.add(
            {"output_type": "display_data", "data": dict(data), "metadata": dict(metadata or {})},
            len(str(data)),
        )

    def clear_output(self, wait: bool = False) -> None:
        self.shell.outputs.items.clear()


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None: ...
    def finish_displayhook(self) -> None: ...
    def log_output(self, format_dict: Any) -> None: ...

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        item = {
            "output_type": "execute_result", "data": dict(format_dict), "metadata": dict(md_dict or {}),
            "execution_count": self.exec_result.execution_count if self.exec_result else 0,
        }  # fmt: skip
        RoomShell.instance().outputs.add(item, len(str(format_dict)))


class RoomShell(InteractiveShell):
    """IPython without a terminal, a history file or a thread, made before the fork."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)
    outputs = Outputs()

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        name = getattr(etype, "__name__", str(etype))
        text = "\n".join(stb)
        self.outputs.add(
            {"output_type": "error", "ename": name, "evalue": str(evalue), "traceback": list(stb)}, len(text)
        )

    def ask_exit(self) -> None:
        """`exit()` and `quit()`: a notebook has no terminal to leave."""


def warm_shell() -> RoomShell:
    """The shell of this process; it runs one cell, so that IPython's own first-time work is done before the fork."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "neutral"  # as the stock kernel; escapes are taken out by who reads them
    shell: RoomShell = RoomShell.instance(config=config)
    shell.run_cell("None", store_history=False)
    shell.execution_count = 1
    return shell


def run_cell(source: str) -> dict[str, Any]:
    """Run one cell: {"status": "ok" | "error", "ename", "evalue", "outputs", "count"}."""
    shell: RoomShell = RoomShell.instance()
    shell.outputs = Outputs()
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(shell, "stdout"), _Stream(shell, "stderr")
    captured = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    saved = [os.dup(1), os.dup(2)]
    os.dup2(captured, 1)
    os.dup2(captured, 2)
    try:
        result = shell.run_cell(source, store_history=True)
    finally:
        sys.stdout, sys.stderr = stdout, stderr
        getattr(
            shell.history_manager, "outputs", {}
        ).clear()  # IPython keeps all that was printed, however much
        for fd, number in zip(saved, (1, 2), strict=True):
            os.dup2(fd, number)
            os.close(fd)
        size = os.lseek(captured, 0, os.SEEK_END)
        if size:  # written below Python, by a subprocess or C code
            text = os.pread(captured, min(size, MOST_OUTPUT), 0).decode("utf-8", "replace")
            shell.outputs.add({"output_type": "stream", "name": "stdout", "text": text}, len(text))
        os.close(captured)
    error = result.error_before_exec or result.error_in_exec
    report: dict[str, Any] = {"status": "ok" if error is None else "error", "count": result.execution_count}
    report["ename"] = "" if error is None else type(error).__name__
    report["evalue"] = "" if error is None else str(error)[:2000]
    report["outputs"] = shell.outputs.items
    return report
