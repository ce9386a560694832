"""The grader's end of a supercomputer behind a wall. Trusted, outside."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from aboard.cluster.patience import MOST
from autograder.errors import SandboxError
from autograder.expect import Finding
from autograder.sandbox import messages
from autograder.sandbox.outer import cluster_command

START_S = 60.0
MARGIN_S = 60.0  # for a server whose cores the jobs use
SCRATCH_MIB = 512


class WalledCluster:
    """A cluster for one submission, in a sandbox of its own. A `login.Supercomputer`; `close` leaves nothing behind.

    Raises SandboxError when it cannot be built. What jobs do to it is raised as Finding "cluster-broken" or
    "out-of-memory", here and by every later call.
    """

    def __init__(
        self, nodes: int, site: str | None, rate: str, memory_mib: int, wall: str = "bubblewrap"
    ) -> None:
        ours, theirs = socket.socketpair()
        start = None
        try:
            start = cluster_command(wall, theirs.fileno(), SCRATCH_MIB)
            self._process = subprocess.Popen(
                start.line, pass_fds=start.fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, env=start.variables, cwd=start.folder,
            )  # fmt: skip
        except (OSError, SandboxError) as error:
            ours.close()
            raise SandboxError(f"a supercomputer could not be started ({error})") from error
        finally:
            theirs.close()
            for fd in start.fds[1:] if start else []:
                os.close(fd)
        self._line: socket.socket | None = ours
        try:
            messages.send(ours, {"nodes": nodes, "site": site, "rate": rate, "memory_mib": memory_mib})
            up = messages.receive(ours, deadline=time.monotonic() + START_S)
        except (EOFError, TimeoutError, OSError, ValueError):
            self.close()
            words = (self._errors.strip().splitlines() or ["no answer"])[-1]
            raise SandboxError(f"a supercomputer did not start: {words}") from None
        if up["problem"]:
            self.close()
            raise SandboxError(f"a supercomputer could not be built: {up['problem']}")

    def put(self, name: str, text: str) -> None:
        self._ask("put", name, text)

    def run(self, script: str, seconds: float) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("run", script, seconds, patience=seconds)
        return answer

    def serve(self, program: str) -> None:
        self._ask("serve", program)

    def submit(self, script: str, options: Sequence[str] = ()) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("submit", script, list(options))
        return answer

    def wait(self, jobs: Sequence[int], seconds: float) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._ask("wait", list(jobs), seconds, patience=MOST * seconds)
        return answer

    def watch(self, jobs: Sequence[int], program: str, seconds: float) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._ask(
            "watch", list(jobs), program, seconds, patience=MOST * seconds
        )
        return answer

    def until(self, name: str, text: str, seconds: float) -> bool:
        return bool(self._ask("until", name, text, seconds, patience=MOST * seconds))

    def read(self, pattern: str) -> dict[str, str]:
        answer: dict[str, str] = self._ask("read", pattern)
        return answer

    def running(self, program: str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._ask("running", program)
        return answer

    def signal(self, job: int, name: str) -> None:
        self._ask("signal", job, name)

    def cancel(self, job: int) -> None:
        self._ask("cancel", job)

    def fault(self, what: str, node: str, rate: str = "") -> None:
        self._ask("fault", what, node, rate)

    def carried(self) -> dict[str, list[int]]:
        answer: dict[str, list[int]] = self._ask("carried")
        return answer

    def _ask(self, op: str, *args: Any, patience: float = 0.0) -> Any:
        if self._line is None:
            raise Finding("cluster-broken", "it has been ended")
        try:
            messages.send(self._line, {"op": op, "args": list(args)})
            answer = messages.receive(self._line, deadline=time.monotonic() + patience + MARGIN_S)
        except (EOFError, TimeoutError, OSError, ValueError) as error:
            self.close()
            raise Finding("cluster-broken", f"it does not answer any more ({type(error).__name__})") from None
        if "broken" in answer:
            raise Finding(answer["broken"], answer["message"])
        return answer["value"]

    def close(self) -> None:
        if self._line is None:
            return
        self._line.close()
        self._line = None
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._errors = self._process.stderr.read().decode("utf-8", "replace")
        self._process.stderr.close()
