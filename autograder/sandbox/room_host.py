"""The grader's end of the rooms that one submission gets: run its cells and calls in them. Trusted, outside the wall."""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from aboard import wire
from aboard.ranks.call import Call, Counters, RanksFailed, Run, Traffic
from aboard.ranks.crew import lead
from autograder.errors import SandboxError
from autograder.exercise import Limits
from autograder.sandbox.cluster_host import WalledCluster
from autograder.sandbox.folder_host import GivenFolder
from autograder.sandbox.host import Sandbox
from autograder.sandbox.network import INTERFACE
from autograder.sandbox.outer import NETWORK

REPORT_S = 5.0  # that papermill has to tell how a cell ended, beyond the cell's own time
KERNEL_CELLS = 2 * 2**20  # bytes that a Jupyter kernel grows by while it runs cells; 1.0 to 1.4 MB were seen
KERNEL_PAGES = 5 * 2**20  # bytes of it that a rank touches before its call; 2.7 to 10 MB were seen


class RoomGone(Exception):
    """The room's process ended or no longer answers: killed, exited, out of memory."""


@dataclass(frozen=True)
class Saved:
    """How papermill left a notebook.

    text: the notebook as it saved it, "" where it did not live to tell. begun: cells that had begun. cells_s: seconds that
    these took, none of them more than it has. ended: "" while the kernel lives and serves; "timeout", "died", or words of
    the agent.
    """

    text: str
    begun: int
    cells_s: float
    ended: str

    @classmethod
    def of(cls, answer: dict[str, Any], begun: int, cells_s: float) -> Saved:
        """From what the agent says, or anything at all of somebody else."""
        text, ended = answer.get("notebook"), answer.get("ended")
        return cls(
            text if type(text) is str else "",
            begun,
            cells_s,
            ended if type(ended) is str else "words of its own",
        )


class SandboxRoom:
    """One submission's code in the sandbox: a room per rank, opened when first needed. A `learner.Room`.

    `cells` are what every rank runs before it is called: the notebook's given code and answers. solution: what they are when
    the exercise is solved.
    """

    def __init__(
        self, sandbox: Sandbox, limits: Limits, drive: str, solution: Callable[[], list[str]] = list
    ) -> None:
        self.sandbox, self.limits, self.drive, self.solution = sandbox, limits, drive, solution
        self.cells: list[str] = []
        self.cpu_s, self.peak_rss_bytes = 0.0, 0
        self.over_limit: list[int] = []  # ranks whose rooms were closed: all together took too much memory
        self.in_kernel = False  # the first room's agent is a Jupyter kernel
        self._loaded: set[int] = set()

    def close(self) -> None:
        """Kill all rooms of this submission and add up what they used."""
        self._shut(*self.sandbox.open_rooms)

    def _shut(self, *ranks: int) -> None:
        self._loaded.difference_update(ranks)
        self.in_kernel = self.in_kernel and 0 not in ranks
        for rank, used in zip(ranks, self.sandbox.shut(list(ranks)), strict=True):
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
        answer = wire.receive(channel, 16 * 2**20, time.monotonic() + timeout_s)
        if type(answer) is not dict:
            raise wire.WireError("an answer that is not one")
        return answer

    def run_papermill(self, notebook: str, cell_timeouts_s: list[float], timeout_s: float) -> Saved:
        """Stock papermill in the first room; afterwards its living kernel answers there.

        cell_timeouts_s: what each cell of `notebook` has but the last, which serves the grader. Papermill sees to it; where
        it is starved or stopped itself, it is ended here.
        """
        if not self.sandbox.ranks:
            raise SandboxError(
                "the kernel engine needs a network of its own, which there is not without user namespaces"
            )
        self.in_kernel = True
        channel = self._channel(0)
        order = {"op": "papermill", "notebook": notebook, "cell_timeouts_s": cell_timeouts_s}
        began: list[float] = []  # when each cell did
        deadline, allowed = time.monotonic() + timeout_s, timeout_s
        try:
            wire.send(channel, order)
            while (answer := self._answer(channel, min(allowed, deadline - time.monotonic()))).get(
                "op"
            ) == "begun":
                if len(began) == len(cell_timeouts_s):
                    raise wire.WireError("more cells than there are")
                if not began:
                    self.sandbox.ask("kernel_begins", rank=0)
                wire.send(channel, {"op": "go"})
                allowed = cell_timeouts_s[len(began)] + REPORT_S
                began.append(time.monotonic())
        except TimeoutError:
            answer = {"ended": "timeout"}
        except (EOFError, OSError, wire.WireError):
            answer = {"ended": "died"}
        ended = [*began[1:], time.monotonic()]
        cells_s = sum(min(b - a, most) for a, b, most in zip(began, ended, cell_timeouts_s, strict=False))
        saved = Saved.of(answer, len(began), cells_s)
        if saved.ended:
            self._shut(0)
            return saved
        try:
            self.ready(timeout_s)  # what drive.py imports is in the kernel before a call is measured
        except RanksFailed as failure:
            return replace(saved, ended=failure.kind)
        return saved

    def forget_first_room(self) -> None:
        self._shut(0)

    def supercomputer(self, nodes: int, site: str | None, rate: str) -> WalledCluster:
        """A cluster for this submission's job scripts, in a sandbox of its own."""
        if not self.sandbox.ranks:
            raise SandboxError(
                "a supercomputer needs user namespaces; `autograder doctor` says how to allow them"
            )
        return WalledCluster(nodes, site, rate, self.limits.memory_mib, self.sandbox.layer)

    @contextmanager
    def solved(self) -> Iterator[SandboxRoom]:
        """The solution's rooms. Those of the submission are closed before: nobody in them can learn anything of it."""
        self._shut(*self.sandbox.open_rooms)
        room = SandboxRoom(self.sandbox, self.limits, self.drive)
        room.cells = self.solution()
        try:
            yield room
        finally:
            room.close()

    def program(self) -> str:
        """The notebook's given code and answers, as the text of a module."""
        return "\n\n".join(self.cells) + "\n"

    def ready(self, timeout_s: float) -> None:
        """The first room has run its cells; give it drive.py too. Raises RanksFailed."""
        self._load([0], [], timeout_s)

    def _channel(self, rank: int) -> socket.socket:
        if rank not in self.sandbox.open_rooms:
            self.sandbox.open([rank], self.limits)
        return self.sandbox.open_rooms[rank]

    def _load(self, ranks: list[int], cells: list[str], timeout_s: float) -> None:
        """Have the rooms of `ranks` run `cells` and drive.py, all at the same time."""
        new = [rank for rank in ranks if rank not in self.sandbox.open_rooms]
        if new:
            self.sandbox.open(new, self.limits)
        for rank in ranks:
            try:
                wire.send(self._channel(rank), {"op": "load", "cells": cells, "drive": self.drive})
            except OSError:
                pass  # it is gone, which shows when its answer is missing
        deadline = time.monotonic() + timeout_s
        for rank in ranks:
            try:
                self._answer(self._channel(rank), deadline - time.monotonic())
                self._loaded.add(rank)
            except TimeoutError:
                self._shut_unloaded(ranks, rank)
                raise RanksFailed(
                    "timeout", f"rank {rank} had not run the notebook's cells after {timeout_s:.0f} s.", rank
                ) from None
            except (EOFError, OSError, wire.WireError):
                self._shut_unloaded(ranks, rank)
                raise RanksFailed(
                    "died", f"the process of rank {rank} ended while it ran the notebook's cells.", rank
                ) from None

    def _shut_unloaded(self, ranks: list[int], failed: int) -> None:
        self._shut(*(one for one in ranks if one == failed or one not in self._loaded))

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
        self._load([rank for rank in range(count) if rank not in self._loaded], self.cells, call.timeout_s)
        call.address, call.interface = f"{NETWORK}.1", INTERFACE
        socks: list[socket.socket] = []
        folders: list[GivenFolder] = []
        try:
            if not call.end_after:  # nothing else may keep the warden from ending them at once
                self.sandbox.ask("watch", ranks=count)
            for rank in range(count):
                socks.append(self._call_room(rank))
            folders = self._give_folders(call, count)
            if call.end_after:
                run = lead(socks, call, limit=64 * 2**20)
            else:
                run = lead(
                    socks, call, self._mark, self._mark, self._sent if call.count_sent else None, limit=64 * 2**20
                )  # fmt: skip
                run.counters = self._counters(count, call, run)
            run.kept = [folder.take_back() for folder in folders]
            if call.end_after:
                self._shut(*range(count))
            return run
        except RanksFailed as failure:
            self.sandbox.ask("unwatch", ranks=count)
            for folder in folders:
                folder.take_back()
            self._clean_up_after(failure, count)
            raise
        finally:
            for sock in socks:
                sock.close()
            for folder in folders:
                folder.close()

    def _give_folders(self, call: Call, count: int) -> list[GivenFolder]:
        """A folder for each rank, if the call has files for them, under a name that was never there."""
        if call.files is None:
            return []
        name = f"files-{secrets.token_hex(4)}"
        folders = [GivenFolder(self.sandbox, rank, name, call.files, call.end_after) for rank in range(count)]
        call.folders = [folder.path for folder in folders]
        return folders

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
            # A Jupyter kernel is a program of its own: it grows a little with every cell, and of its pages some become its
            # child's as soon as they are touched.
            held[0], early[0] = max(0, held[0] - KERNEL_CELLS), max(0, early[0] - KERNEL_PAGES)
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
        self._shut(*range(0 if failure.kind in ("died", "timeout", "deadlock") else 1, count))
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
