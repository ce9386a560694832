"""Lead a crew of ranks through one call, and say in words what went wrong when it does.

A rank is a process at the other end of a socket (`rank.live_as_rank`). Where it came from does not matter here: forked
beside you (`local`) or in a sandbox of its own. The crew hands each rank its own inputs, waits until all are ready,
says "go" to all at once, collects what they return, and notices what would otherwise be silence: a rank that raised
while others wait for it, one that died, ranks that wait for each other for ever.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aboard import wire
from aboard.ranks.call import Call, Counters, RanksFailed, Run
from aboard.ranks.meter import Collective

STALL_S = 2.0  # nothing has moved for this long, and every unfinished rank waits in a call: a deadlock
GRACE_S = 0.7  # how long others may take to finish after one rank has failed
ASK_EVERY_S = 0.25
SMALL = 4 * 2**20  # bytes a rank may send at a time before it is asked for what it returns


@dataclass
class _Member:
    rank: int
    inbox: wire.Inbox
    state: str = (
        "starting"  # starting → ready → running → returned → delivered, or raised/missing/unsendable/died
    )
    report: dict[str, Any] = field(default_factory=dict)
    said: list[Any] = field(default_factory=list)
    called_by_then: list[int] = field(default_factory=list)
    sent_by_then: list[int] = field(default_factory=list)
    position: dict[str, Any] = field(default_factory=dict)
    failed_at: float | None = None

    @property
    def over(self) -> bool:
        return self.state in ("returned", "delivered", "raised", "missing", "unsendable", "died")

    def learn_position(self, message: dict[str, Any], now: float) -> bool:
        """Take note of where it says it is; whether it has moved or computed since it last said so."""
        before, after = self.position, _position(message) | {"seen": now}
        self.position = after
        same = (
            before.get("waiting") is not None
            and after["waiting"] is not None
            and before["count"] == after["count"]
            and after["cpu"] - before["cpu"] < 0.02 * (now - before["seen"]) + 0.004
        )
        return not same

    def describe(self) -> str:
        """`rank 2 waits in recv from rank 1 (line 7 of ring: dist.recv(buffer, left))`"""
        who = f"rank {self.rank}"
        if self.state == "raised":
            line = f" ({self.report.get('line')})" if self.report.get("line") else ""
            return f"{who} raised {self.report.get('type')}: {self.report.get('message')}{line}"
        if self.state == "died":
            return f"{who} ended without returning"
        if self.state in ("returned", "delivered", "unsendable"):
            return f"{who} has returned"
        waiting = self.position.get("waiting")
        if waiting:
            return f"{who} waits in {describe_wait(waiting)}"
        return f"{who} is still computing"


def describe_wait(waiting: dict[str, Any]) -> str:
    """`recv from rank 1 (line 7 of ring: …)` for a collective that has not come back."""
    op, peer, line = waiting["op"], waiting["peer"], waiting["line"]
    side = "" if peer is None else (f" to rank {peer}" if op == "send" else f" from rank {peer}")
    return f"{op}{side}" + (f" ({line})" if line else "")


def lead(
    socks: list[socket.socket],
    call: Call,
    on_ready: Callable[[], object] = lambda: None,
    on_done: Callable[[], Counters] = Counters,
    on_said: Callable[[int], int] | None = None,
    limit: int = wire.DEFAULT_LIMIT,
) -> Run:
    """Run `call` on the ranks behind `socks` (rank r behind socks[r]).

    `on_ready` runs when every rank is ready and none has begun, `on_done` when every rank has returned and none has
    sent its outcome: the moments between which meters count. `on_said(r)` runs when rank r has yielded a value and is not yet given
    what comes next: how many bytes it has sent. `limit` is the most bytes all ranks may return.
    Raises RanksFailed. Sockets stay open; the caller closes them, which dismisses the ranks.
    """
    return _Voyage(socks, call, limit, on_said).run(on_ready, on_done)


class _Voyage:
    def __init__(
        self, socks: list[socket.socket], call: Call, limit: int, on_said: Callable[[int], int] | None
    ) -> None:
        self.call, self.socks, self.limit, self.on_said = call, socks, limit, on_said
        self.deadline = time.monotonic() + call.timeout_s
        self.moved_at = time.monotonic()  # when any rank was last seen to get on
        self.members = [_Member(r, wire.Inbox(s, SMALL)) for r, s in enumerate(socks)]
        self.selector = selectors.DefaultSelector()
        for member, sock in zip(self.members, socks, strict=True):
            self.selector.register(sock, selectors.EVENT_READ, member)

    def run(self, on_ready: Callable[[], object], on_done: Callable[[], Counters]) -> Run:
        try:
            for member in self.members:
                self._say(member, self._orders(member.rank))
            self._until("ready")
            on_ready()
            start = time.monotonic()
            for member in self.members:
                member.state, self.moved_at = "running", time.monotonic()
                self._say(member, {"op": "go"})
            try:
                self._until("returned")
            except RanksFailed as failure:
                # As it was to be: what it had said is what came
                if failure.kind == "died" and self.call.end_after:
                    return Run(self.call.world_size, said=[m.said for m in self.members])
                raise
            seconds = time.monotonic() - start
            counters = on_done()
            # One outcome at a time, and all of them within one limit: what ranks return must fit in this process.
            for member in self.members:
                member.inbox.limit, before = self.limit, member.inbox.taken
                self._say(member, {"op": "give"})
                self._until("delivered", [member])
                self.limit -= member.inbox.taken - before
            return Run(
                self.call.world_size,
                [m.report.get("value") for m in self.members],
                [_collectives(m.report) for m in self.members],
                counters,
                seconds,
                [m.said for m in self.members],
                [m.called_by_then for m in self.members],
                [m.sent_by_then for m in self.members] if self.on_said else None,
            )
        finally:
            self.selector.close()

    def _orders(self, rank: int) -> dict[str, Any]:
        call = self.call
        return {
            "function": call.function, "drive": call.drive, "rank": rank, "world_size": call.world_size,
            "args": [*call.folders[rank : rank + 1], *(per_rank[rank] for per_rank in call.args)], "kwargs": call.kwargs,
            "timeout_s": call.timeout_s + 5, "address": call.address, "interface": call.interface,
            "device": call.device,
        }  # fmt: skip

    def _say(self, member: _Member, message: dict[str, Any]) -> None:
        sock = self.socks[member.rank]
        try:
            sock.settimeout(max(0.05, self.deadline - time.monotonic()))  # all together have one deadline
            wire.send(sock, message)
        except TimeoutError:
            pass  # it does not listen; the deadline has come, and that is what is told
        except OSError:
            self._lose(member)

    def _lose(self, member: _Member) -> None:
        if member.state != "delivered":
            member.state, member.failed_at = "died", time.monotonic()
        self._stop_listening(member)

    def _stop_listening(self, member: _Member) -> None:
        try:
            self.selector.unregister(self.socks[member.rank])
        except (KeyError, ValueError):
            pass

    def _until(self, state: str, whom: list[_Member] | None = None) -> None:
        members = whom or self.members
        ask_at = time.monotonic() + ASK_EVERY_S
        order = ["starting", "ready", "running", "returned", "delivered"]
        reached = set(order[order.index(state) :])
        while any(m.state not in reached for m in members):
            now = time.monotonic()
            self._raise_if_lost(now)
            if now > ask_at:
                for member in self.members:
                    if member.state in ("ready", "running"):
                        self._say(member, {"op": "where"})
                ask_at = now + ASK_EVERY_S
            for key, _ in self.selector.select(timeout=0.05):
                self._hear(key.data)
        self._raise_if_lost(time.monotonic())

    def _hear(self, member: _Member) -> None:
        try:
            message = member.inbox.read()
            while message is not wire.Inbox.NOTHING:
                self._take(member, message)
                message = member.inbox._take()
        except wire.WireError as error:
            self._refuse(member, str(error))
        except (EOFError, OSError):
            self._lose(member)

    def _refuse(self, member: _Member, why: str) -> None:
        member.state, member.failed_at, member.report = "unsendable", time.monotonic(), {"message": why}
        self._stop_listening(member)

    def _answer(self, member: _Member, value: Any, called: Any) -> None:
        """It has said something on the way, and gets what it is to go on with."""
        number = len(member.said)
        if number == len(self.call.later) or member.inbox.taken > SMALL:
            self._refuse(member, "more on the way than it was asked for")
            return
        member.said.append(value)
        member.called_by_then.append(int(_number(called)))
        if self.on_said:
            member.sent_by_then.append(self.on_said(member.rank))
        self.moved_at = time.monotonic()
        self._say(member, {"op": "next", "value": self.call.later[number][member.rank]})

    def _take(self, member: _Member, message: Any) -> None:
        """One message of a rank. What it says must fit what was asked: a rank that answers early is not heard."""
        op = message.get("op") if type(message) is dict else None
        if (
            op == "store"
            and member.rank == 0
            and member.state == "starting"
            and type(message.get("port")) is int
        ):
            for other in self.members[1:]:
                self._say(other, {"op": "join", "port": message["port"]})
        elif op == "ready" and member.state == "starting":
            member.state, self.moved_at = "ready", time.monotonic()
        elif op == "said" and member.state == "running":
            self._answer(member, message.get("value"), message.get("called"))
        elif op == "done" and member.state == "running":
            member.state, self.moved_at = "returned", time.monotonic()
        elif op == "outcome" and member.state == "returned":
            member.state, member.report = "delivered", message
        elif op == "at" and member.state in ("ready", "running"):
            if member.learn_position(message, time.monotonic()):
                self.moved_at = time.monotonic()
        elif op in ("raised", "missing", "unsendable") and not (
            op == "unsendable" and member.state != "returned"
        ):
            if not member.over or op == "unsendable":
                member.state, member.report, member.failed_at = op, _report(message), time.monotonic()

    def _raise_if_lost(self, now: float) -> None:
        failed = sorted((m for m in self.members if m.failed_at is not None), key=lambda m: m.failed_at or 0)
        unfinished = [m for m in self.members if not m.over]
        if failed and (not unfinished or now - (failed[0].failed_at or 0) > GRACE_S):
            # Others often fail because the first one left: gloo tells them "connection closed". Name the cause.
            causes = [m for m in failed if not _is_consequence(m.report)] or failed
            raise self._failure(min(causes, key=lambda m: m.rank), now)
        # Each has said so itself, long after the last sign of life of any: silence of a rank that gets no processor
        # time is no proof, nor is what it said before another one let it go on.
        if unfinished and all(m.position.get("seen", 0) - self.moved_at > STALL_S for m in unfinished):
            raise RanksFailed("deadlock", self._deadlock(unfinished), unfinished[0].rank, self._states())
        if now > self.deadline:
            states = "; ".join(self._states())
            if unfinished and all(m.position.get("waiting") for m in unfinished):
                raise RanksFailed("deadlock", self._deadlock(unfinished), unfinished[0].rank, self._states())
            raise RanksFailed(
                "timeout", f"no answer within {self.call.timeout_s:.0f} s: {states}.",
                unfinished[0].rank if unfinished else None, self._states(),
            )  # fmt: skip

    def _failure(self, member: _Member, now: float) -> RanksFailed:
        name = "your code" if self.call.drive else f"`{self.call.function}`"
        alone = len(self.members) == 1 and not self.call.world_size
        who = "it" if alone else f"rank {member.rank}"
        if member.state == "raised":
            line = str(member.report.get("line") or "")
            text = f"{member.report.get('type')}: {member.report.get('message')}".strip().rstrip(":.")
            message = (
                f"{name} raised {text}" + ("" if alone else f" on {who}") + (f", at {line}" if line else "")
            )
        elif member.state == "missing":
            message = str(member.report.get("message"))
        elif member.state == "unsendable":
            message = (
                f"{name} returned " + str(member.report.get("message")) + ("" if alone else f" (on {who})")
            )
        else:
            message = (
                f"the process of {who} ended while {name} ran, and Python could not say why: so it ends when ranks call "
                "one collective with tensors of different sizes, when memory runs out, or by os._exit"
                if not alone
                else f"the process ended in {name}"
            )
        waiting = [m.describe() for m in self.members if m is not member and not m.over]
        if waiting:
            message += "; meanwhile " + ", ".join(waiting)
        unwritten = member.state == "raised" and member.report.get("type") == "NotImplementedError"
        return RanksFailed(
            "not-done" if unwritten else member.state, message.rstrip(".") + ".", member.rank, self._states()
        )

    def _deadlock(self, unfinished: list[_Member]) -> str:
        return "nobody can go on: " + "; ".join(self._states()) + "."

    def _states(self) -> list[str]:
        return [m.describe() for m in self.members]


# What a rank says of itself may have any type and any size: here it becomes short texts and plain numbers.


def _text(value: Any, most: int = 2000) -> str:
    return value[:most] if type(value) is str else ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e15


def _number(value: Any) -> float:
    return value if _is_number(value) else 0


def _position(message: dict[str, Any]) -> dict[str, Any]:
    waiting = message.get("waiting")
    if type(waiting) is dict:
        peer = waiting.get("peer")
        waiting = {
            "op": _text(waiting.get("op"), 80),
            "peer": peer if type(peer) is int and abs(peer) < 1e6 else None,
            "line": _text(waiting.get("line"), 400),
        }
    else:
        waiting = None
    return {"waiting": waiting, "count": _number(message.get("count")), "cpu": _number(message.get("cpu"))}


def _report(message: dict[str, Any]) -> dict[str, str]:
    """Why it failed, in its own words."""
    return {
        "type": _text(message.get("type"), 80),
        "message": _text(message.get("message")),
        "line": _text(message.get("line"), 400),
    }


def _is_consequence(report: dict[str, Any]) -> bool:
    text = str(report.get("message", "")).lower()
    return any(
        words in text for words in ("connection closed", "connection reset", "broken pipe", "socket closed")
    )


def _collectives(report: dict[str, Any]) -> list[Collective]:
    """The rank's own account of its collectives, as far as it has the right form."""
    found = []
    raw = report.get("collectives")
    for item in raw if type(raw) is list else []:
        if type(item) is not dict or type(item.get("op")) is not str:
            continue
        size, group_size, start = item.get("bytes"), item.get("group_size"), item.get("start")
        if not (_is_number(size) and _is_number(group_size) and _is_number(start)):
            continue
        peer, end = item.get("peer"), item.get("end")
        found.append(
            Collective(
                _text(item["op"], 80), int(_number(size)), peer if type(peer) is int else None, float(_number(start)),
                None if end is None else float(_number(end)), _text(item.get("line"), 400), int(_number(group_size)),
            )
        )  # fmt: skip
    return found
