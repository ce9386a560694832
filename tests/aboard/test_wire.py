"""Values across the boundary: what goes in comes out plain, and nothing else comes out."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aboard import wire

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=300, deadline=None)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    back = wire.decode(*wire.encode(value))
    assert back == value and repr(back) == repr(value)


@pytest.mark.parametrize("dtype", wire.DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5)])
def test_tensors_come_back_bit_for_bit(dtype, shape):
    tensor = torch.ones(shape).to(dtype)
    back = wire.decode(*wire.encode({"t": [tensor, tensor.clone()]}))["t"][0]
    assert back.dtype == dtype and back.shape == tensor.shape and torch.equal(back, tensor)


def test_infinities_views_and_parameters_cross_as_plain_tensors_and_numbers():
    value = [
        float("inf"),
        torch.nn.Parameter(torch.arange(6.0).view(2, 3).t()),
        torch.float16,
        torch.Size([1, 2]),
    ]
    number, tensor, dtype, size = wire.decode(*wire.encode(value))
    assert number == float("inf") and dtype is torch.float16 and size == (1, 2)
    assert type(tensor) is torch.Tensor and not tensor.requires_grad
    assert tensor.tolist() == [[0, 3], [1, 4], [2, 5]]


class EqualToEverything(float):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


def contains_itself() -> list:
    value: list = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "object"),
        (EqualToEverything(1), "EqualToEverything"),
        (torch.eye(3).to_sparse(), "dense"),
        (torch.empty(3, device="meta"), "meta"),
        (torch.zeros(1).expand(2**40), "bytes"),
        (contains_itself(), "deep"),
        (lambda: 1, "function"),
    ],
)
def test_what_cannot_cross_is_named(value, says):
    with pytest.raises(wire.WireError, match=says):
        wire.encode(value)


def test_a_tensor_subclass_becomes_a_plain_tensor():
    class Cheat(torch.Tensor):
        pass

    assert type(wire.decode(*wire.encode(torch.ones(2).as_subclass(Cheat)))) is torch.Tensor


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[" * 100_000, b'{"tensor": 0}', b'{"tensor": 7}', b'{"dict": [[[], 1]]}', b'{"int": "zz"}',
     b'{"a": 1, "b": 2}', b'{"float": "1"}', b'{"dtype": "object"}', b"\xff\xfe", b"1" * 10_000, b"NaN",
     json.dumps([0] * 300_000).encode()],
)  # fmt: skip
@pytest.mark.parametrize("blob", [b"", b"\xff" * 64, struct.pack("<Q", 2**60) + b"{}"])
def test_forged_bytes_are_refused_quickly(text, blob):
    start = time.monotonic()
    try:
        value = wire.decode(text, blob)
    except wire.WireError:
        value = None
    assert value is None or type(value) is float  # json knows NaN; a number is only a number
    assert time.monotonic() - start < 2


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_a_value_or_a_wire_error(text, blob):
    try:
        wire.decode(text, blob)
    except wire.WireError:
        pass


def test_a_header_that_announces_too_much_is_refused_before_anything_is_read():
    ours, theirs = socket.socketpair()
    theirs.sendall(wire.HEADER.pack(10, 2**40))
    with pytest.raises(wire.WireError, match="at most"):
        wire.receive(ours)


def test_a_slow_or_silent_sender_meets_the_deadline():
    ours, theirs = socket.socketpair()
    theirs.sendall(b"\0\0")
    with pytest.raises(TimeoutError):
        wire.receive(ours, deadline=time.monotonic() + 0.2)


def test_messages_keep_their_bounds():
    ours, theirs = socket.socketpair()
    values = [1, {"a": torch.ones(100_000)}, "x" * 100_000, [None]]
    threading.Thread(target=lambda: [wire.send(theirs, v) for v in values], daemon=True).start()
    assert wire.receive(ours) == 1
    assert wire.receive(ours)["a"].sum() == 100_000
    assert wire.receive(ours) == "x" * 100_000 and wire.receive(ours) == [None]
