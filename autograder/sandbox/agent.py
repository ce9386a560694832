"""The agent: the grader's hand inside the room. Not trusted, for it lives in the learner's own process.

It runs cells, and for every call of the judge it forks a child that becomes one rank (`aboard.ranks.rank`). A learner's
code can replace all of this. It gains nothing by it: what goes out is data that the judge compares with its own values,
for draws that arrive only with the call, and bytes and memory are read elsewhere.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, NoReturn

from aboard import wire
from aboard.ranks.rank import live_as_rank
from autograder.learner import lookup_in
from autograder.sandbox.libraries import loaded_optimizers
from autograder.sandbox.outer import SCRATCH
from autograder.sandbox.shell import RoomShell, run_cell

LIMIT = 64 * 2**20  # bytes of one order


def serve(channel: socket.socket) -> NoReturn:
    """Serve the grader until it hangs up, then end the process."""
    try:
        _Agent(channel, None).run()
    except (EOFError, OSError, wire.WireError):
        pass
    os._exit(0)


def serve_in_kernel() -> None:
    """The last cell of a notebook run by a stock Jupyter kernel: take over the room's channel and serve from here."""
    door = socket.socket(socket.AF_UNIX)
    door.connect(DOOR)
    _, fds, _, _ = socket.recv_fds(door, 1, 1)
    door.close()
    import __main__

    try:
        _Agent(socket.socket(fileno=fds[0]), vars(__main__)).run()
    except (EOFError, OSError, wire.WireError):
        pass


DOOR = f"{SCRATCH}/.door"
EXECUTED = f"{SCRATCH}/.executed.ipynb"


class _Agent:
    def __init__(self, channel: socket.socket, namespace: dict[str, Any] | None) -> None:
        self.channel = channel
        self._namespace = namespace
        self.drive: dict[str, Any] = {}
        self.children: list[int] = []

    @property
    def namespace(self) -> dict[str, Any]:
        return RoomShell.instance().user_ns if self._namespace is None else self._namespace

    def run(self) -> None:
        while True:
            order = wire.receive(self.channel, LIMIT)
            op = order["op"]
            if op == "call":
                self._fork_rank()
            elif op == "cell":
                wire.send(self.channel, self._cell(order["source"]))
            elif op == "load":
                for source in order["cells"]:
                    self._cell(source)
                self.learn_drive(order["drive"])
                wire.send(self.channel, {"op": "loaded"})
            elif op == "papermill":
                _run_stock_papermill(self.channel, order["notebook"], order["cell_timeouts_s"])

    def learn_drive(self, source: str) -> None:
        self.drive = {"__name__": "drive"}
        exec(compile(source, "drive.py", "exec"), self.drive)

    def _cell(self, source: str) -> dict[str, Any]:
        try:
            return {"op": "cell_done"} | run_cell(source)
        except KeyboardInterrupt:
            return {
                "op": "cell_done",
                "status": "error",
                "ename": "KeyboardInterrupt",
                "evalue": "",
                "outputs": [],
                "count": 0,
            }

    def _fork_rank(self) -> None:
        for child in self.children:  # whatever an earlier call left behind
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
            try:
                os.waitpid(child, 0)
            except ChildProcessError:
                pass
        self.children.clear()
        _, fds, _, _ = socket.recv_fds(self.channel, 1, 1)
        pid = os.fork()
        if pid == 0:
            self.channel.close()
            live_as_rank(socket.socket(fileno=fds[0]), lookup_in(self.namespace, self.drive))
        os.close(fds[0])
        self.children.append(pid)


def _run_stock_papermill(channel: socket.socket, notebook: str, cell_timeouts_s: list[float]) -> None:
    """Papermill as anybody runs it: nbclient, a Jupyter kernel of its own, TCP on the loopback.

    Each cell is announced when it begins. The last one calls `serve_in_kernel`, which knocks at `DOOR`. By then all other
    cells have run: send the notebook as papermill saved it, hand the channel over to the kernel, and wait.
    """
    import threading

    from autograder.notebook_format import nbformat  # isort: skip
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    _load_libraries_in_kernels()
    door = socket.socket(socket.AF_UNIX)
    door.bind(DOOR)
    door.listen(1)

    def report(ended: str) -> None:
        try:
            text = open(EXECUTED).read()
        except OSError:
            text = ""
        wire.send(channel, {"op": "executed", "notebook": text[: 16 * 2**20], "ended": ended})

    def hand_over() -> None:
        kernel, _ = door.accept()
        report("")
        socket.send_fds(kernel, [b"c"], [channel.fileno()])
        kernel.close()

    threading.Thread(target=hand_over, daemon=True).start()
    ended = "error"
    try:
        node = nbformat.reads(notebook, as_version=4)
        papermill.execute_notebook(
            node, EXECUTED, parameters={"grading": True}, progress_bar=False, start_timeout=60,
            execution_timeout=None, allow_errors=True,
            on_cell_start=_announce(channel, len(cell_timeouts_s)), timeout_func=_one_by_one(cell_timeouts_s),
        )  # fmt: skip
    except DeadKernelError:
        ended = "died"
    except CellTimeoutError:
        ended = "timeout"
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"[:500]
    try:
        report(ended)
    except OSError:
        pass
    os._exit(0)


def _load_libraries_in_kernels() -> None:
    """Have every kernel of this room load at its start what this process has loaded, so that no cell does."""
    folder = os.path.join(os.environ["IPYTHONDIR"], "profile_default", "startup")
    os.makedirs(folder, exist_ok=True)
    # One expression: a name that this file gives would be one in the notebook.
    with open(os.path.join(folder, "libraries.py"), "w") as file:
        file.write(
            f"__import__('autograder.sandbox.libraries').sandbox.libraries.load_in_kernel({loaded_optimizers()})\n"
        )


def _announce(channel: socket.socket, cells: int) -> Any:
    """Called by nbclient before it runs a cell: says so to the grader, and waits until it may. Not before the last, which serves.

    The grader takes its time at the first one, to see what the kernel has while nothing of a learner has run in it.
    """

    def announce(cell: Any, cell_index: int) -> None:
        if cell_index < cells:
            wire.send(channel, {"op": "begun"})
            wire.receive(channel, LIMIT)

    return announce


def _one_by_one(cell_timeouts_s: list[float]) -> Any:
    """Asked by nbclient for the seconds that a cell has, each in turn. The last may take as long as the judge does."""
    left = iter(cell_timeouts_s)
    return lambda cell: next(map(int, left), None)


if __name__ == "__main__":
    sys.exit("started by the fork server only")
