"""What fuzz tests share: how many examples, how much processor time, and values nobody would send in good faith."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SOAK = bool(os.environ.get("SOAK"))


def examples(short: int) -> settings:
    """`short` examples in `make test`, 26 times as many in `make soak`: more than 20,000 notebooks alone."""
    return settings(
        max_examples=26 * short if SOAK else short, deadline=None, suppress_health_check=list(HealthCheck)
    )


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, record_property: Any) -> None:
    """How many inputs a test tries, for the table that `make soak` writes."""
    chosen = getattr(request.function, "_hypothesis_internal_use_settings", None)
    record_property("inputs", chosen.max_examples if chosen else 1)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fails when the block takes more processor time; a busy machine makes no difference."""
    start = time.process_time()
    yield
    taken = time.process_time() - start
    assert taken < seconds, f"{taken:.1f} s of processor time"


TEXTS = (
    st.text(st.characters(), max_size=8)
    | st.sampled_from(
        ["", "code", "stdout", "rank", "\x00", "\ud800", "\udcff", "\x1b[2J", "\u202e", "<script>"]
    )
    | st.sampled_from([400, 70_000]).map("9".__mul__)
)
NUMBERS = (
    st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**53, 2**63, -(2**63) - 1, 10**400, 1e308])
)
PLAIN = st.none() | st.booleans() | NUMBERS | TEXTS


def nested(
    leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str], most: int = 6
) -> st.SearchStrategy[Any]:
    """Lists and dicts of `leaves`, nested a little."""
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=most,
    )


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into nested lists and dicts."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


def damaged(draw: Any, data: bytes) -> bytes:
    """`data` as a bad line or a bad person might deliver it: bits flipped, cut, doubled, with strange bytes in it."""
    raw = bytearray(data)
    for _ in range(draw(st.sampled_from([0, 1, 1, 4]))):
        where = draw(st.integers(0, max(0, len(raw) - 1)))
        harm = draw(st.sampled_from(["flip", "cut", "insert", "double", "zero"]))
        if harm == "flip" and raw:
            raw[where] ^= 1 << draw(st.integers(0, 7))
        elif harm == "cut":
            del raw[where:]
        elif harm == "insert":
            raw[where:where] = draw(
                st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b'"', b"}", b"[" * 5000])
            )
        elif harm == "double":
            raw[where:where] = raw[where : where + draw(st.integers(1, 200))]
        elif harm == "zero":
            raw[where : where + 8] = bytes(8)
    return bytes(raw)
