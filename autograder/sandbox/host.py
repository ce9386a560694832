"""The grader's end of the sandbox: start it, open and shut rooms in it. Trusted, outside the wall."""

from __future__ import annotations

import socket
import time
from typing import Any

from aboard import wire
from autograder.errors import SandboxError
from autograder.exercise import Limits
from autograder.sandbox.outer import WALLS
from autograder.sandbox.warm import LADDER, START_S, WarmServer


class Sandbox:
    """One warm sandbox with rooms for `ranks` ranks. Use as a context manager; `close` leaves nothing behind.

    It is forked from `server`, if that works; else from a server of its own, of `layer`, one of LADDER, or by default of the
    best that works here. `layers` lists what is active, outermost first. Raises SandboxError with the reason of each when
    none can be had.
    """

    def __init__(self, ranks: int = 8, layer: str | None = None, server: WarmServer | None = None) -> None:
        self.open_rooms: dict[int, socket.socket] = {}
        reasons = []
        if server is not None:
            self.server, self._owns_server = server, False
            try:
                self._start(ranks)
                return
            except SandboxError:
                pass  # it may only have ended: the ladder begins at its top
        self._owns_server = True
        for name in LADDER if layer is None else (layer,):
            try:
                self.server = WarmServer(name)
                self._start(ranks)
                return
            except SandboxError as error:
                reasons.append(f"{name}: {error}")
        raise SandboxError("no sandbox works here, so nothing is graded. " + "; ".join(reasons))

    def _start(self, ranks: int) -> None:
        """Raises SandboxError when it does not work; then its server is closed, too."""
        self.server.wait()
        try:
            self._control = self.server.fork(ranks)
            sockets = ["sockets counted"] if self._meet_warden() else []
            layer = self.server.layer
            self.layer, self.ranks = layer, ranks if layer in WALLS else 0
            filters = ["seccomp filter"] if self.server.seccomp else []
            if layer in WALLS:
                first = "bubblewrap" if layer == "bubblewrap" else "own wall"
                inside = ["user namespaces", "one network interface per rank", "rlimits"]
                self.layers = [first, *inside, *filters, *sockets, "no capabilities"]
            else:
                self.layers = ["Landlock", "rlimits", *filters, "no network, one process"]
            self._try_a_room()
        except SandboxError:
            self.server.close()
            raise

    def _meet_warden(self) -> bool:
        """Whether the kernel tells it what waits in the sockets of rooms. Raises SandboxError."""
        met = {"problem": "it did not answer", "sockets_told": False}
        try:
            met = wire.receive(self._control, deadline=time.monotonic() + START_S)
            self._control.settimeout(30)
        except (EOFError, TimeoutError, OSError, wire.WireError):
            pass
        if met["problem"]:
            self._control.close()
            raise SandboxError(met["problem"])
        return bool(met["sockets_told"])

    def _try_a_room(self) -> None:
        """What keeps rooms from working here must never look like a learner's mistake: find out before any is graded."""
        try:
            self.open([0], Limits())
            channel = self.open_rooms[0]
            wire.send(channel, {"op": "cell", "source": "print(6 * 7)"})
            works = wire.receive(channel, deadline=time.monotonic() + START_S)["status"] == "ok"
            self.shut([0])
        except (EOFError, OSError, TimeoutError, wire.WireError):
            works = False
        except SandboxError:
            self._control.close()
            raise
        if not works:
            self._control.close()
            raise SandboxError("a notebook cannot be run in it")

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, op: str, *fds: int, **order: Any) -> Any:
        try:
            wire.send(self._control, {"op": op} | order)
            if fds:
                socket.send_fds(self._control, [b"c"], fds)
            return wire.receive(self._control)
        except (EOFError, OSError, wire.WireError) as error:
            raise SandboxError(f"the sandbox no longer answers ({type(error).__name__})") from error

    def open(self, ranks: list[int], limits: Limits) -> None:
        """Open the rooms of `ranks`; in `open_rooms` are then the sockets that their agents serve. Raises SandboxError."""
        pairs = [socket.socketpair() for _ in ranks]
        self.open_rooms |= {rank: ours for rank, (ours, _) in zip(ranks, pairs, strict=True)}
        try:
            answer = self.ask(
                "open", *(theirs.fileno() for _, theirs in pairs), ranks=ranks,
                limits={
                    "memory_mib": limits.memory_mib, "cpu_s": int(2 * limits.wall_s) + 10, "file_mib": 256,
                    "processes": 200,
                },
            )  # fmt: skip
        finally:
            for _, theirs in pairs:
                theirs.close()
        if answer["problem"]:
            self.shut(ranks)
            raise SandboxError(f"a room could not be built: {answer['problem']}")

    def shut(self, ranks: list[int]) -> list[dict[str, Any]]:
        """Kill everything in the rooms of `ranks`; what each used: cpu_s, peak_rss_bytes, over_limit."""
        for rank in ranks:
            channel = self.open_rooms.pop(rank, None)
            if channel is not None:
                channel.close()
        used: list[dict[str, Any]] = self.ask("close", ranks=ranks)["used"]
        return used

    def let_go(self) -> WarmServer:
        """Its server, which from now on is the caller's to close."""
        self._owns_server = False
        return self.server

    def close(self) -> None:
        self._control.close()
        if self._owns_server:
            self.server.close()
