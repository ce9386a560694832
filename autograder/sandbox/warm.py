"""A warm server behind one of the walls: sandboxes are forks of it. Trusted, outside the wall; needs no PyTorch to be started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time

from autograder.errors import SandboxError
from autograder.sandbox import messages
from autograder.sandbox.outer import WALLS, Start, command, environment, mark

START_S = 60.0
LADDER = (*WALLS, "landlock")  # the best that works is taken, and when none does, nothing is graded


class WarmServer:
    """One process that has loaded what rooms need, for as many sandboxes as are asked of it.

    It begins to load when this is made; `wait` until it has. `layer` is one of LADDER. optimizers: load what they need, too.
    `close` leaves nothing behind.
    """

    def __init__(self, layer: str, optimizers: bool = True) -> None:
        """Raises SandboxError when it cannot be started here."""
        self.layer, self.seccomp = layer, False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._up = False
        ours, theirs = socket.socketpair()
        start = None
        try:
            self._errors = tempfile.TemporaryFile()  # no pipe: one that nobody reads is full one day
            start = self._how(theirs.fileno())
            self._process = subprocess.Popen(
                start.line, pass_fds=start.fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=self._errors, env=start.variables, cwd=start.folder,
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
            messages.send(ours, {"optimizers": optimizers})
        except OSError:
            pass  # it has ended, which shows when its answer is missing

    def _how(self, control_fd: int) -> Start:
        if self.layer in WALLS:
            return command(self.layer, control_fd)
        self._folder = tempfile.TemporaryDirectory(prefix="all-aboard-")
        server = [sys.executable, "-m", "autograder.sandbox.server", str(control_fd), "confined"]
        return Start(server, [control_fd], environment(self._folder.name) | mark(), self._folder.name)

    @property
    def pid(self) -> int:
        """Of the process that all of its sandboxes descend from."""
        return self._process.pid

    def wait(self) -> None:
        """Until it is warm. Raises SandboxError, and is closed, when it did not get there."""
        if self._up:
            return
        try:
            up = messages.receive(self._control, time.monotonic() + START_S)
        except (EOFError, TimeoutError, OSError, ValueError):
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            errors = self._errors.read().decode("utf-8", "replace")
            lines = [one for one in errors.strip().splitlines() if one.strip()]
            self.close()
            raise SandboxError("it did not start: " + (lines[-1] if lines else "no answer")) from None
        if up["problem"]:
            self.close()
            raise SandboxError(up["problem"])
        self._up, self.seccomp = True, up["seccomp"]
        self._control.settimeout(30)

    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, ranks: int) -> socket.socket:
        """A new sandbox with rooms for `ranks` ranks: the socket that its warden obeys. Raises SandboxError."""
        self.wait()
        ours, theirs = socket.socketpair()
        try:
            messages.send(self._control, {"ranks": ranks})
            socket.send_fds(self._control, [b"w"], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise SandboxError(f"the sandbox's server no longer answers ({type(error).__name__})") from error
        finally:
            theirs.close()
        return ours

    def forget(self) -> None:
        """In a process forked from the one it belongs to: be no second owner."""
        self._control.close()
        self._errors.close()

    def close(self) -> None:
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        if self._folder:
            self._folder.cleanup()


def begin(optimizers: bool) -> WarmServer | None:
    """Start the server of the best layer that can be started here, and do not wait for it; None when there is none."""
    for layer in LADDER:
        try:
            return WarmServer(layer, optimizers)
        except SandboxError:
            continue
    return None
