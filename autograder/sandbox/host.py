"""The grader's end of the sandbox: start it, open rooms, run cells and calls in them. Trusted, outside the wall."""

from __future__ import annotations

import os
import secrets
import select
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from aboard import wire
from aboard.ranks.call import Call, Counters, Kept, RanksFailed, Run, Traffic
from aboard.ranks.crew import lead
from aboard.ranks.folder import bundle, unbundle
from autograder.errors import SandboxError
from autograder.exercise import Limits
from autograder.sandbox.cluster_host import WalledCluster
from autograder.sandbox.network import INTERFACE
from autograder.sandbox.outer import NETWORK, WALLS, Start, command, environment, mark

START_S = 60.0
KERNEL_PAGES = 5 * 2**20  # bytes; 3.3 to 4.1 MB were seen
LADDER = (*WALLS, "landlock")  # the best that works is taken, and when none does, nothing is graded


class RoomGone(Exception):
    """The room's process ended or no longer answers: killed, exited, out of memory."""


class Sandbox:
    """One warm sandbox with rooms for `ranks` ranks. Use as a context manager; `close` leaves nothing behind.

    `layer` is one of LADDER; by default the best that works here. `layers` lists what is active, outermost first.
    Raises SandboxError with the reason of each when none can be had.
    """

    def __init__(self, ranks: int = 8, layer: str | None = None) -> None:
        self.open_rooms: dict[int, socket.socket] = {}
        self.stale = False  # files went through the server: later rooms would be measured with what they left in its heap
        self._asked = ranks
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

    def renew_if_stale(self) -> None:
        """Start anew, if need be; between submissions, when no room is open. Raises SandboxError."""
        if self.stale:
            self.close()
            self._start(self.layer, self._asked)
            self.stale = False

    def _how(self, layer: str, control_fd: int, ranks: int) -> Start:
        if layer in WALLS:
            return command(layer, control_fd, ranks)
        self._folder = tempfile.TemporaryDirectory(prefix="all-aboard-")
        server = [sys.executable, "-m", "autograder.sandbox.server", str(control_fd), str(ranks), "confined"]
        return Start(server, [control_fd], environment(self._folder.name) | mark(), self._folder.name)

    def _try_a_room(self) -> None:
        """What keeps rooms from working here must never look like a learner's mistake: find out before any is graded."""
        room = SandboxRoom(self, Limits(), "")
        try:
            reply = room.run_cell("print(6 * 7)", START_S)
        except (RoomGone, TimeoutError):
            reply = {}
        room.close()
        if reply.get("status") != "ok":
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


class SandboxRoom:
    """One submission's code in the sandbox: a room per rank, opened when first needed. A `learner.Room`.

    `cells` are what every rank runs before it is called: the notebook's given code and answers.
    """

    def __init__(self, sandbox: Sandbox, limits: Limits, drive: str) -> None:
        self.sandbox, self.limits, self.drive = sandbox, limits, drive
        self.cells: list[str] = []
        self.cpu_s, self.peak_rss_bytes = 0.0, 0
        self.over_limit: list[
            int
        ] = []  # ranks whose rooms were closed because all together took too much memory
        self.in_kernel = False  # the first room's agent is a Jupyter kernel
        self._loaded: set[int] = set()

    def close(self) -> None:
        """Kill all rooms of this submission and add up what they used."""
        for rank in list(self.sandbox.open_rooms):
            self._shut(rank)

    def _shut(self, rank: int) -> None:
        used = self.sandbox.shut(rank)
        self._loaded.discard(rank)
        if used["over_limit"]:
            self.over_limit.append(rank)
        self.cpu_s += float(used["cpu_s"])
        self.peak_rss_bytes = max(self.peak_rss_bytes, int(used["peak_rss_bytes"]))

    def run_cell(self, source: str, timeout_s: float) -> dict[str, Any]:
        """Run a cell in the first room. RoomGone when the process ended; TimeoutError when it had to be interrupted."""
        channel = self._channel(0)
        try:
            wire.send(channel, {"op": "cell", "source": source})
            try:
                return self._answer(channel, timeout_s)
            except TimeoutError:
                self.sandbox.ask("interrupt", rank=0)
                self._answer(channel, 1.0)
                raise TimeoutError from None
        except TimeoutError:
            if channel in self.sandbox.open_rooms.values() and not _alive(channel):
                self._shut(0)
            raise
        except (EOFError, OSError, wire.WireError):
            self._shut(0)
            raise RoomGone from None

    def _answer(self, channel: socket.socket, timeout_s: float) -> dict[str, Any]:
        try:
            answer = wire.receive(channel, 16 * 2**20, time.monotonic() + timeout_s)
        except TimeoutError:
            raise
        if type(answer) is not dict:
            raise wire.WireError("an answer that is not one")
        return answer

    def run_papermill(self, notebook: str, cell_timeout_s: float, timeout_s: float) -> dict[str, Any]:
        """Stock papermill in the first room; afterwards its living kernel answers there."""
        if not self.sandbox.ranks:
            raise SandboxError(
                "the kernel engine needs a network of its own, which there is not without user namespaces"
            )
        self.in_kernel = True
        channel = self._channel(0)
        try:
            wire.send(
                channel,
                {
                    "op": "papermill",
                    "notebook": notebook,
                    "drive": self.drive,
                    "cell_timeout_s": cell_timeout_s,
                },
            )
            answer = self._answer(channel, timeout_s)
        except (EOFError, OSError, wire.WireError, TimeoutError):
            self._shut(0)
            raise RoomGone from None
        if answer.get("ended") != "":  # a string of the agent, or anything at all of somebody else
            self._shut(0)
        else:
            self._loaded.add(0)
        return answer

    def forget_first_room(self) -> None:
        self._shut(0)

    def supercomputer(self, nodes: int, site: str | None, rate: str) -> WalledCluster:
        """A cluster for this submission's job scripts, in a sandbox of its own."""
        if not self.sandbox.ranks:
            raise SandboxError(
                "a supercomputer needs user namespaces; `autograder doctor` says how to allow them"
            )
        return WalledCluster(nodes, site, rate, self.limits.memory_mib, self.sandbox.layer)

    def program(self) -> str:
        """The notebook's given code and answers, as the text of a module."""
        return "\n\n".join(self.cells) + "\n"

    def ready(self) -> None:
        """The first room has run its cells; give it drive.py too."""
        self._load([0], [])

    def _channel(self, rank: int) -> socket.socket:
        channel = self.sandbox.open_rooms.get(rank)
        return channel if channel is not None else self.sandbox.open(rank, self.limits)

    def _load(self, ranks: list[int], cells: list[str]) -> None:
        """Have the rooms of `ranks` run `cells` and drive.py, all at the same time."""
        for rank in ranks:
            try:
                wire.send(self._channel(rank), {"op": "load", "cells": cells, "drive": self.drive})
            except OSError:
                pass  # it is gone, which shows when its answer is missing
        deadline = time.monotonic() + self.limits.wall_s / 2
        for rank in ranks:
            try:
                self._answer(self._channel(rank), deadline - time.monotonic())
                self._loaded.add(rank)
            except (EOFError, OSError, wire.WireError, TimeoutError):
                for started in ranks:
                    if started == rank or started not in self._loaded:
                        self._shut(started)
                raise RanksFailed(
                    "died",
                    f"the process of rank {rank} ended or hung while it ran the notebook's cells.",
                    rank,
                ) from None

    def run(self, call: Call) -> Run:
        """Run `call` with rank r in room r. Counters are the kernel's. Raises RanksFailed."""
        count = max(1, call.world_size)
        if call.world_size and not self.sandbox.ranks:
            raise SandboxError(
                "this exercise runs on several ranks, and without user namespaces there is no closed network for them; "
                "`autograder doctor` says how to allow them"
            )
        if call.world_size > self.sandbox.ranks:
            raise RanksFailed("timeout", f"this grader has room for {self.sandbox.ranks} ranks, not {count}.")
        self._load([rank for rank in range(count) if rank not in self._loaded], self.cells)
        call.address, call.interface = f"{NETWORK}.1", INTERFACE
        socks: list[socket.socket] = []
        try:
            if not call.end_after:  # nothing else may keep the warden from ending them at once
                self.sandbox.ask("watch", ranks=count, kernel=self.in_kernel)
            for rank in range(count):
                socks.append(self._call_room(rank))
            self.sandbox.stale |= call.files is not None
            self._give_folders(call, count)
            if call.end_after:
                run = lead(socks, call, limit=64 * 2**20)
            else:
                run = lead(socks, call, self._mark, self._mark, self._sent, limit=64 * 2**20)
                run.counters = self._counters(count, call, run)
            if call.files is not None:
                run.kept = self._take_folders_back(count)
            if call.end_after:
                for rank in range(count):
                    self._shut(rank)
            return run
        except RanksFailed as failure:
            self.sandbox.ask("unwatch", ranks=count)
            if call.files is not None:
                self._take_folders_back(count)
            self._clean_up_after(failure, count)
            raise
        finally:
            for sock in socks:
                sock.close()

    def _give_folders(self, call: Call, count: int) -> None:
        """A folder for each rank, if the call has files for them, under a name that was never there."""
        if call.files is None:
            return
        name, files = f"files-{secrets.token_hex(4)}", bundle(call.files)
        for rank in range(count):
            given = self.sandbox.ask("give", rank=rank, name=name, files=files, after=call.end_after)
            if given["problem"]:
                why = f"the files for rank {rank} could not be put into its room ({given['problem']})"
                raise RanksFailed("died", why + ".", rank)
            call.folders.append(given["path"])

    def _take_folders_back(self, count: int) -> list[Kept]:
        answers = [self.sandbox.ask("take_back", rank=rank) for rank in range(count)]
        return [Kept(**(one | {"files": unbundle(one["files"])})) for one in answers]

    def _call_room(self, rank: int) -> socket.socket:
        channel = self._channel(rank)
        ours, theirs = socket.socketpair()
        try:
            channel.settimeout(10)
            wire.send(channel, {"op": "call"})
            socket.send_fds(channel, [b"c"], [theirs.fileno()])
        except OSError:
            pass  # the room is gone: the crew sees the closed socket and says so
        finally:
            theirs.close()
        return ours

    def _mark(self) -> Counters:
        self.sandbox.ask("mark")
        return Counters()

    def _sent(self, rank: int) -> int:
        return int(self.sandbox.ask("sent", rank=rank)["bytes"])

    def _counters(self, ranks: int, call: Call, run: Run) -> Counters:
        counted = self.sandbox.ask("unwatch", ranks=ranks)
        early, peak, late = counted["grown_bytes"]
        held = counted["held_before_bytes"]
        if self.in_kernel:
            # A Jupyter kernel is a program of its own: what it has before is not known, and of its pages some become
            # its child's as soon as they are touched.
            held[0], early[0] = 0, max(0, early[0] - KERNEL_PAGES)
        for rank in range(ranks):
            # What is handed over is there several times for a moment: as bytes, as text, as tensors.
            early[rank] = max(0, early[rank] - 4 * _size([values[rank] for values in call.args]))
            late[rank] = max(0, late[rank] - 4 * _size(run.outputs[rank]))
        sent, received = counted["sent_bytes"], counted["received_bytes"]
        meeting, traffic = ([Traffic(*one) for one in counted[key]] for key in ("meeting", "traffic"))
        if not call.world_size:
            return Counters(None, None, peak, held, early, late, counted["strangers"])
        return Counters(sent, received, peak, held, early, late, counted["strangers"], meeting, traffic)

    def _clean_up_after(self, failure: RanksFailed, count: int) -> None:
        """After a failed call start from fresh rooms, but keep those that did nothing worse than raise."""
        if failure.kind in ("raised", "not-done", "missing", "unsendable") and len(failure.states) == 1:
            return
        self.over_limit.clear()
        for rank in range(count):
            if failure.kind in ("died", "timeout", "deadlock") or rank:
                self._shut(rank)
        if self.over_limit:
            raise RanksFailed(
                "out-of-memory",
                f"rank {self.over_limit[0]} was stopped, because all ranks together took more than "
                f"{self.limits.memory_mib} MiB of memory.",
                self.over_limit[0],
            ) from None


def _size(value: Any) -> int:
    """Bytes of all tensors in `value`."""
    if isinstance(value, list | tuple):
        return sum(_size(item) for item in value)
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    return value.nbytes if hasattr(value, "nbytes") else 0


def _alive(channel: socket.socket) -> bool:
    """Whether the other end still exists (it may be busy)."""
    readable, _, _ = select.select([channel], [], [], 0)
    try:
        return not readable or bool(channel.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
