"""The grader's end of the sandbox: start it, open and shut rooms in it. Trusted, outside the wall."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from aboard import wire
from autograder.errors import SandboxError
from autograder.exercise import Limits
from autograder.sandbox.outer import WALLS, Start, command, environment, mark

START_S = 60.0
LADDER = (*WALLS, "landlock")  # the best that works is taken, and when none does, nothing is graded


class Sandbox:
    """One warm sandbox with rooms for `ranks` ranks. Use as a context manager; `close` leaves nothing behind.

    `layer` is one of LADDER; by default the best that works here. `layers` lists what is active, outermost first.
    Raises SandboxError with the reason of each when none can be had.
    """

    def __init__(self, ranks: int = 8, layer: str | None = None) -> None:
        self.open_rooms: dict[int, socket.socket] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        reasons = []
        for name in LADDER if layer is None else (layer,):
            try:
                self._start(name, ranks)
                return
            except SandboxError as error:
                reasons.append(f"{name}: {error}")
        raise SandboxError("no sandbox works here, so nothing is graded. " + "; ".join(reasons))

    def _start(self, layer: str, ranks: int) -> None:
        ours, theirs = socket.socketpair()
        start = None
        try:
            start = self._how(layer, theirs.fileno(), ranks)
            self._process = subprocess.Popen(
                start.line, pass_fds=start.fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, env=start.variables, cwd=start.folder,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise SandboxError(f"it could not be started ({error})") from error
        except SandboxError:
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in start.fds[1:] if start else []:
                os.close(fd)
        self._control = ours
        try:
            up = wire.receive(ours, deadline=time.monotonic() + START_S)
        except (EOFError, TimeoutError, OSError):
            self._process.kill()
            errors = (self._process.stderr.read() if self._process.stderr else b"").decode("utf-8", "replace")
            lines = [one for one in errors.strip().splitlines() if one.strip()]
            self.close()
            raise SandboxError("it did not start: " + (lines[-1] if lines else "no answer")) from None
        ours.settimeout(30)
        if up["problem"]:
            self.close()
            raise SandboxError(up["problem"])
        self.layer, self.ranks = layer, ranks if layer in WALLS else 0
        filters = ["seccomp filter"] if up["seccomp"] else []
        if layer in WALLS:
            first = "bubblewrap" if layer == "bubblewrap" else "own wall"
            inside = ["user namespaces", "one network interface per rank", "rlimits"]
            self.layers = [first, *inside, *filters, "no capabilities"]
        else:
            self.layers = ["Landlock", "rlimits", *filters, "no network, one process"]
        self._try_a_room()

    def _how(self, layer: str, control_fd: int, ranks: int) -> Start:
        if layer in WALLS:
            return command(layer, control_fd, ranks)
        self._folder = tempfile.TemporaryDirectory(prefix="all-aboard-")
        server = [sys.executable, "-m", "autograder.sandbox.server", str(control_fd), str(ranks), "confined"]
        return Start(server, [control_fd], environment(self._folder.name) | mark(), self._folder.name)

    def _try_a_room(self) -> None:
        """What keeps rooms from working here must never look like a learner's mistake: find out before any is graded."""
        try:
            channel = self.open(0, Limits())
            wire.send(channel, {"op": "cell", "source": "print(6 * 7)"})
            works = wire.receive(channel, deadline=time.monotonic() + START_S)["status"] == "ok"
            self.shut(0)
        except (EOFError, OSError, TimeoutError, wire.WireError):
            works = False
        except SandboxError:
            self.close()
            raise
        if not works:
            self.close()
            raise SandboxError("a notebook cannot be run in it")

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, op: str, fd: int | None = None, **order: Any) -> Any:
        try:
            wire.send(self._control, {"op": op} | order)
            if fd is not None:
                socket.send_fds(self._control, [b"c"], [fd])
            return wire.receive(self._control)
        except (EOFError, OSError, wire.WireError) as error:
            raise SandboxError(f"the sandbox no longer answers ({type(error).__name__})") from error

    def open(self, rank: int, limits: Limits) -> socket.socket:
        """Open the room of `rank`; the socket its agent serves."""
        ours, theirs = socket.socketpair()
        answer = self.ask(
            "open", theirs.fileno(), rank=rank,
            limits={
                "memory_mib": limits.memory_mib, "cpu_s": int(2 * limits.wall_s) + 10, "file_mib": 256,
                "processes": 200,
            },
        )  # fmt: skip
        theirs.close()
        if answer["problem"]:
            ours.close()
            raise SandboxError(f"a room could not be built: {answer['problem']}")
        self.open_rooms[rank] = ours
        return ours

    def shut(self, rank: int) -> Any:
        """Kill everything in the room of `rank`; what it used: cpu_s, peak_rss_bytes, status."""
        channel = self.open_rooms.pop(rank, None)
        if channel is not None:
            channel.close()
        return self.ask("close", rank=rank)

    def close(self) -> None:
        try:
            self._control.close()
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
        if self._folder:
            self._folder.cleanup()
