"""The warden: opens and closes rooms on the grader's orders, and reads the kernel's counters about them.

It never reads what a room says. Bytes come from the switch, messages and memory from /proc. When all rooms together take more
memory than they may, the largest is closed, so that no submission can fill the machine.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from dataclasses import astuple
from typing import Any

from aboard import wire
from aboard.ranks.call import Traffic
from aboard.ranks.memory import read_status
from autograder.sandbox.account import Growth, Room, at_most, below, exactly, note_kernel, process_tree
from autograder.sandbox.confined import open_confined_room
from autograder.sandbox.ending import end, end_orphans
from autograder.sandbox.folder_server import attend
from autograder.sandbox.network import Switch, sent_so_far
from autograder.sandbox.room import Building

SAMPLE_S = 0.004  # while a call is measured
LOOK_S = 0.1  # at other times: are the rooms within their memory?
EXACT_EVERY = 30  # looks; the others are quick ones, which some ways to take memory escape


class Warden:
    """One thread only, for rooms are forked from it: it obeys orders, and between them looks at the rooms' memory."""

    def __init__(self, control: socket.socket, switch: Switch | None) -> None:
        self.control, self.switch = control, switch
        self.rooms: dict[int, Room] = {}
        self.attendants: dict[int, list[int]] = {}  # of folders of each room, by process id
        self.opened = self.looks = 0
        self.limit = 0  # bytes all rooms together may take
        self.warm = read_status(os.getpid())["RssAnon"]
        self.growth: Growth | None = None
        self.received: list[int] = []  # bytes by each rank when the call was made
        # Of each rank, since the switch was made: when the call was made, when it began, when it was over.
        self.marks: list[list[Traffic]] = []

    def run(self) -> None:
        """Serve until the grader hangs up; then nothing of any room is left."""
        look_at = sample_at = 0.0
        while True:
            ready, _, _ = select.select([self.control], [], [], SAMPLE_S if self.growth else LOOK_S)
            if time.monotonic() > look_at:
                self._look()
                look_at = time.monotonic() + LOOK_S
            elif self.growth and time.monotonic() > sample_at:
                began = time.thread_time()
                self.growth.sample()
                # Many ranks are not looked at for more than a twentieth of a core, which they could use themselves.
                sample_at = time.monotonic() + 19 * (time.thread_time() - began)
            if self.control not in ready:
                continue
            try:
                order = wire.receive(self.control)
            except (EOFError, OSError):
                break
            answer = getattr(self, "_" + order.pop("op"))(**order)
            wire.send(self.control, answer)
        self._close(list(self.rooms))

    def _look(self) -> None:
        if self.growth:
            self.growth.sample_whole()
        rooms = list(self.rooms.values())
        self.looks += 1
        if not rooms or self.looks % EXACT_EVERY and at_most(rooms, self.warm) <= self.limit:
            return
        taken = exactly(rooms, self.warm)
        if sum(taken) > self.limit:
            worst = rooms[taken.index(max(taken))]
            worst.over_limit = True
            end(worst)

    def _attend(self, rank: int) -> dict[str, Any]:
        """Fork an attendant for a folder in the room; it serves the socket that comes with the order."""
        (channel,) = self._handed_over(1)
        with channel:
            self.attendants.setdefault(rank, []).append(attend(channel, self.rooms[rank]))
        return {}

    def _handed_over(self, count: int) -> list[socket.socket]:
        _, fds, _, _ = socket.recv_fds(self.control, 1, count)
        return [socket.socket(fileno=fd) for fd in fds]

    def _open(self, ranks: list[int], limits: dict[str, Any]) -> dict[str, Any]:
        channels = self._handed_over(len(ranks))
        self.limit = limits["memory_mib"] * 2**20
        problem, begun = "", {}
        for rank, channel in zip(ranks, channels, strict=True):
            try:
                if self.switch is None:
                    scratch = os.path.abspath(f"room-{self.opened}")
                    self.rooms[rank] = Room(open_confined_room(channel, limits, scratch), [], scratch)
                else:
                    begun[rank] = Building(rank, self.switch.rooms[rank], channel, limits)
                self.opened += 1
            except OSError as error:
                problem = str(error)
            channel.close()
        for rank, building in begun.items():
            try:
                assert self.switch is not None
                self.rooms[rank] = Room(*building.finish(), sockets=self.switch.sockets[rank])
            except OSError as error:
                problem = str(error)
        return {"problem": problem}

    def _close(self, ranks: list[int]) -> dict[str, Any]:
        """What each used; nothing for a room that is not open."""
        for rank in ranks:
            for attendant in self.attendants.pop(rank, []):
                os.kill(attendant, signal.SIGKILL)
                os.waitpid(attendant, 0)
        rooms = [self.rooms.pop(rank, None) for rank in ranks]
        for room in rooms:
            if room:
                self.growth = None
                # All of them, before any is waited for: the kernel takes them away at the same time
                end(room)
        return {"used": [self._bury(room) for room in rooms]}

    def _bury(self, room: Room | None) -> dict[str, Any]:
        if room is None:
            return {"cpu_s": 0.0, "peak_rss_bytes": 0, "over_limit": False}
        _, _, usage = os.wait4(room.init, 0)
        if room.scratch:
            others = {other.init for other in self.rooms.values()}
            end_orphans(others.union(*self.attendants.values()))
        room.close()
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_rss_bytes": usage.ru_maxrss * 1024,
            "over_limit": room.over_limit,
        }

    def _interrupt(self, rank: int) -> dict[str, Any]:
        if rank in self.rooms:
            for pid in below(self.rooms[rank].init, process_tree())[:1]:
                os.kill(pid, signal.SIGINT)
        return {}

    def _kernel_begins(self, rank: int) -> dict[str, Any]:
        """In this room a Jupyter kernel runs beside the agent, and nothing of the learner has run in it yet."""
        note_kernel(self.rooms[rank], self.warm)
        return {}

    def _watch(self, ranks: int) -> dict[str, Any]:
        """Begin to count, before any rank exists: bytes on each rank's wire, memory of each rank's room."""
        self.received, self.marks = self._received(ranks), [self._traffic(ranks)]
        self.growth = Growth([self.rooms[rank] for rank in range(ranks)], self.warm)
        return {}

    def _mark(self) -> dict[str, Any]:
        """The ranks say that the call begins, or that it is over."""
        if self.growth:
            self.growth.next_stretch()
        self.marks.append(self._traffic(len(self.marks[0])))
        return {}

    def _sent(self, rank: int) -> dict[str, Any]:
        """Bytes that `rank` has sent since the call was made."""
        sent = self.switch.counters(rank + 1)[0][rank] if self.switch else 0
        return {"bytes": sent - self.marks[0][rank].bytes}

    def _unwatch(self, ranks: int) -> dict[str, Any]:
        """What was counted since `watch`. Memory in bytes, a list for each stretch with a figure for each room."""
        growth, self.growth = self.growth, None
        if growth is None:
            return {}
        made, begun, end = self.marks[0], self.marks[min(1, len(self.marks) - 1)], self._traffic(ranks)
        return {
            "grown_bytes": growth.result(),
            "held_before_bytes": growth.held_before,
            "strangers": growth.strangers,
            "sent_bytes": [after.bytes - before.bytes for after, before in zip(end, made, strict=True)],
            "received_bytes": [
                after - before for after, before in zip(self._received(ranks), self.received, strict=True)
            ],
            "meeting": _between(made, begun),
            "traffic": _between(begun, end),
        }

    def _received(self, ranks: int) -> list[int]:
        return self.switch.counters(ranks)[1] if self.switch else [0] * ranks

    def _traffic(self, ranks: int) -> list[Traffic]:
        if self.switch is None:
            return [Traffic(0, 0, 0, 0)] * ranks
        sent, _, packets = self.switch.counters(ranks)
        return [sent_so_far(self.rooms[r].init, sent[r], packets[r]) for r in range(ranks)]


def _between(before: list[Traffic], after: list[Traffic]) -> list[list[int]]:
    """What was sent from one look to the other, for each rank as `Traffic` has it."""
    pairs = zip(before, after, strict=True)
    return [[b - a for a, b in zip(astuple(one), astuple(two), strict=True)] for one, two in pairs]
