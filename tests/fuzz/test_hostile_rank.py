"""Ranks that say anything at any moment: `lead` ends in time, in a Run or in RanksFailed with words fit to print."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aboard import wire
from aboard.ranks import crew
from aboard.ranks.call import Call, RanksFailed, Run
from aboard.ranks.crew import lead
from tests.fuzz.conftest import TEXTS, examples, nested

TIMEOUT_S = 0.3
SLACK_S = 2.0  # for a machine that is busy
OPS = ["store", "ready", "said", "done", "outcome", "at", "raised", "missing", "unsendable", "join", "go", ""]
KEYS = [
    "op",
    "waiting",
    "count",
    "cpu",
    "port",
    "message",
    "type",
    "line",
    "collectives",
    "value",
    "peer",
    "bytes",
    "start",
    "end",
]
ODD = nested(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
    | st.sampled_from([10**400, -(10**400), float("nan"), torch.ones(2), torch.ones(()), torch.float32, (), {1: 2}, *OPS]),
    st.sampled_from(KEYS), most=4,
)  # fmt: skip
MESSAGE = st.fixed_dictionaries({"op": st.sampled_from(OPS)}, optional={key: ODD for key in KEYS[1:]}) | ODD
WAITING = st.fixed_dictionaries(
    {
        "op": st.just("at"),
        "waiting": ODD | st.just({"op": "recv", "peer": 0, "line": "x"}),
        "count": ODD,
        "cpu": ODD,
    }
)
# What an honest rank does, with something else in between, instead, or too soon.
STEP = (
    st.sampled_from(
        [
            ("await", "go"),
            ("await", "give"),
            ("await", "next"),
            ("close", None),
            ("wait", 0.02),
            ("raw", b"\0\0\0\1" + bytes(8) + b"x"),
        ]
    )
    | st.tuples(st.just("say"), MESSAGE | WAITING)
    | st.tuples(st.just("raw"), st.binary(max_size=40))
)
HONEST = [
    ("say", {"op": "ready"}),
    ("await", "go"),
    ("say", {"op": "done"}),
    ("await", "give"),
    ("say", {"op": "outcome", "value": 7, "collectives": []}),
]


@st.composite
def lives(draw):
    """The steps of one rank."""
    steps = list(HONEST)
    for _ in range(draw(st.integers(0, 4))):
        where = draw(st.integers(0, len(steps) - 1))
        if draw(st.booleans()):
            steps.insert(where, draw(STEP))
        else:
            steps[where] = draw(STEP)
    return steps


def live(sock: socket.socket, steps: list) -> None:
    inbox = wire.Inbox(sock)
    sock.settimeout(TIMEOUT_S + SLACK_S)
    try:
        for what, argument in steps:
            if what == "say":
                wire.send(sock, argument)
            elif what == "raw":
                sock.sendall(argument)
            elif what == "wait":
                time.sleep(argument)
            elif what == "close":
                sock.close()
                return
            else:
                message = None
                while not isinstance(message, dict) or message.get("op") != argument:
                    message = inbox.read()
        while True:
            sock.recv(1 << 16)
            time.sleep(0.01)
    except (OSError, EOFError, wire.WireError):
        pass


def led(
    all_steps: list, seconds: float = TIMEOUT_S, args: list | None = None, then: float = SLACK_S
) -> Run | RanksFailed:
    """What `lead` makes of ranks that live like this; fails when it takes too long or says what cannot be printed."""
    pairs = [socket.socketpair() for _ in all_steps]
    ranks = [
        threading.Thread(target=live, args=(theirs, steps), daemon=True)
        for (_, theirs), steps in zip(pairs, all_steps, strict=True)
    ]
    for rank in ranks:
        rank.start()
    start = time.monotonic()
    try:
        came = lead(
            [ours for ours, _ in pairs], Call("f", args or [], {}, len(pairs), timeout_s=seconds), limit=2**20
        )
    except RanksFailed as failure:
        came = failure
        said = [str(failure), *failure.states]
        assert failure.kind in ("raised", "not-done", "deadlock", "died", "timeout", "missing", "unsendable")
        assert all(type(text) is str and len(text) < 10_000 * len(pairs) for text in said), (
            "too long to print"
        )
        "".join(said).encode()
    finally:
        taken = time.monotonic() - start
        for ours, theirs in pairs:
            ours.close()
            theirs.close()
        for rank in ranks:
            rank.join(0.2)
    assert taken < seconds + then, f"{taken:.1f} s"
    return came


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Shorter waits, so that many examples fit in a minute."""
    monkeypatch.setattr(crew, "GRACE_S", 0.03)
    monkeypatch.setattr(crew, "ASK_EVERY_S", 0.02)
    monkeypatch.setattr(crew, "STALL_S", 0.1)


@examples(60)
@given(all_steps=st.lists(lives(), min_size=1, max_size=3))
def test_whatever_ranks_say_the_call_ends_in_time(all_steps):
    came = led(all_steps)
    if isinstance(came, Run):
        assert len(came.outputs) == len(came.collectives) == len(all_steps)


def test_honest_ranks_are_heard():
    assert led([HONEST, HONEST]).outputs == [7, 7]


ODD_POSITIONS = [
    {"waiting": "a text"}, {"waiting": torch.ones(2)}, {"waiting": {"op": torch.ones(2), "peer": torch.ones(2), "line": ["x"]}},
    {"waiting": {"op": "x" * 500_000}}, {"waiting": {}, "count": torch.ones(2), "cpu": 0}, {"waiting": [1], "cpu": 10**400},
    {"waiting": {"op": "recv"}, "cpu": "nan"}, {"waiting": {"op": "recv"}, "cpu": -1e308}, {"waiting": 7, "seen": 1e300},
]  # fmt: skip


@pytest.mark.parametrize("position", ODD_POSITIONS, ids=range(len(ODD_POSITIONS)))
def test_odd_positions_are_no_more_than_positions(position):
    """A rank that says where it is in a way that means nothing, twice, and then neither returns nor leaves."""
    at = ("say", {"op": "at"} | position)
    came = led([[HONEST[0], HONEST[1], at, at, ("wait", 0.1), at], [HONEST[0]]])
    assert isinstance(came, RanksFailed) and came.kind in ("timeout", "deadlock")


ODD_REPORTS = [
    {"op": "raised", "type": "x" * 500_000, "message": "y" * 400_000, "line": "z" * 50_000},
    {"op": "raised", "type": torch.ones(300), "message": ["x"] * 50_000, "line": torch.ones(2)},
    {"op": "missing", "message": "x" * 900_000},
    {"op": "missing"},
]


@pytest.mark.parametrize("report", ODD_REPORTS, ids=range(len(ODD_REPORTS)))
def test_odd_reports_are_cut_to_what_a_person_reads(report):
    assert isinstance(led([[HONEST[0], HONEST[1], ("say", report)]]), RanksFailed)


@pytest.mark.parametrize(
    "collectives",
    [7, "abc", [7], ["op"], [torch.ones(3)], [torch.ones(())], [{"op": 1}], [{}] * 1000,
     [{"op": "send", "bytes": float("inf"), "peer": 0, "start": 0, "end": 0, "line": "", "group_size": 1}],
     [{"op": "send", "bytes": 1, "peer": 0, "start": 10**400, "end": None, "line": "", "group_size": 1}],
     [{"op": "send", "bytes": torch.ones(2), "peer": 0, "start": 0, "end": 0, "line": "", "group_size": 1}]],
    ids=range(11),
)  # fmt: skip
def test_odd_accounts_of_collectives_are_left_out(collectives):
    came = led([[*HONEST[:-1], ("say", {"op": "outcome", "value": 1, "collectives": collectives})]])
    assert isinstance(came, Run) and came.collectives == [[]]


def test_ranks_that_never_listen_cost_one_timeout_not_one_each():
    """More than a socket holds is sent to each of four ranks that do not read."""
    deaf = [("wait", 8.0)]
    came = led([deaf] * 4, seconds=1.0, args=[[torch.ones(10**6)] * 4])
    assert isinstance(came, RanksFailed) and came.kind in ("timeout", "died")


def test_a_flood_of_messages_ends_with_the_timeout():
    flood = [("raw", b"\0\0\0\1" + bytes(8) + b"1") for _ in range(200_000)]
    assert isinstance(led([[HONEST[0], HONEST[1], *flood], HONEST]), RanksFailed)
