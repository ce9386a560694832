"""The reader of the wire, given bytes that were changed in every way: a plain value or a WireError, and nothing else.

While it reads, nothing is imported, executed or opened, and a small message never becomes a large value.
"""

from __future__ import annotations

import copy
import gc
import json
import resource
import socket
import struct
import sys
import threading
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aboard import wire
from tests.fuzz.conftest import PLAIN, TEXTS, at, at_most, damaged, examples, nested, places

DONE_TO_THE_MACHINE = (
    "import",
    "exec",
    "compile",
    "open",
    "pickle",
    "subprocess",
    "os.",
    "ctypes",
    "socket.connect",
    "shutil",
)
seen: list[str] = []
watching = False
here = threading.get_ident()


def _watch(event: str, _: object) -> None:
    if watching and threading.get_ident() == here and event.startswith(DONE_TO_THE_MACHINE):
        seen.append(event)


sys.addaudithook(_watch)


def decode(text: bytes, blob: bytes) -> object:
    """`wire.decode` with a look at what it does and how long it takes."""
    global watching
    seen.clear()
    gc.disable()  # what other tests left behind is not to be cleared away, with files closed and removed, in here
    watching = True
    try:
        with at_most(seconds=3):
            value = wire.decode(text, blob)
    finally:
        watching = False
        gc.enable()
        assert not seen, f"reading a message did {seen}"
    be_plain(value)
    assert sum(t.nbytes for t in tensors(value)) <= len(blob)
    return value


def test_what_a_message_did_would_be_seen(monkeypatch):
    """The watch itself: a reader that opens a file, and one that gives more than it was sent, are told."""
    monkeypatch.setattr(wire, "decode", lambda text, blob: open("/dev/null").close())
    with pytest.raises(AssertionError, match="open"):
        decode(b"1", b"")
    monkeypatch.setattr(wire, "decode", lambda text, blob: torch.ones(3))
    with pytest.raises(AssertionError):
        decode(b"1", b"")
    monkeypatch.setattr(wire, "decode", lambda text, blob: [{"a": object()}])
    with pytest.raises(AssertionError):
        decode(b"1", b"")


def be_plain(value: object, depth: int = 0) -> None:
    """Exactly the types that can be sent, all the way down."""
    assert depth < 70
    if type(value) in (list, tuple):
        for item in value:
            be_plain(item, depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            hash(key)
            be_plain(key, depth + 1)
            be_plain(item, depth + 1)
    elif type(value) is torch.Tensor:
        assert value.dtype in wire.DTYPES.values() and value.is_contiguous() and not value.requires_grad
        assert value.dim() <= wire.MAX_DIMS and value.device.type == "cpu" and value.layout is torch.strided
    elif type(value) is str:
        value.encode()  # no half characters
    else:
        assert value is None or type(value) in (bool, int, float, torch.dtype)


def tensors(value: object) -> list[torch.Tensor]:
    if type(value) is torch.Tensor:
        return [value]
    items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    return [tensor for item in items for tensor in tensors(item)]


TENSORS = st.builds(
    lambda dtype, shape: torch.ones(shape).to(dtype),
    st.sampled_from(list(wire.DTYPES.values())),
    st.lists(st.integers(0, 4), max_size=3),
)
VALUES = st.recursive(
    PLAIN | TENSORS | st.sampled_from(list(wire.DTYPES.values())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)
TAGS = ["tensor", "tuple", "dict", "int", "float", "dtype", "", "__class__"]
ODD = nested(
    PLAIN.filter(lambda value: value != 10**400)
    | st.sampled_from(["nan", "float32", "object", "-0x1f", "0x" + "f" * 2000]),
    st.sampled_from(TAGS),
)
HEADER_VALUES = st.sampled_from(
    ["F32", "F64", "BOOL", "I64", "U64", "F8_E4M3", "F4", "C64", "X", "", None, 0, 1, -1, 4, 8, 2**31, 2**62, 2**63, 2**64, 1.5,
     [], [0], [4], [0, 0], [0, 8], [8, 0], [0, 2**62], [1] * 70, [2**62, 2**62], [2**32] * 2, [-1], [0, 2**64], {}, {"a": "b"}]
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What the first use of torch imports is not the message's doing."""
    for dtype in wire.DTYPES.values():
        wire.decode(*wire.encode([torch.ones(3).to(dtype), float("nan"), dtype]))
    with pytest.raises(wire.WireError):
        wire.decode(b'{"tensor": 0}', b"\xff" * 30)


def encoded(value: object) -> tuple[bytes, bytes]:
    try:
        return wire.encode(value)
    except wire.WireError:  # a text too odd, a number too large: fine, it cannot cross
        return wire.encode([1, torch.ones(2), {"a": (1.5, torch.float16)}])


@st.composite
def changed_structure(draw):
    """A message whose JSON has been changed: other tags, other values, other depth."""
    text, blob = encoded(draw(VALUES))
    root = [json.loads(text)]
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(list(places(root)) or [(0,)]))
        inner, key = at(root, path[:-1]), path[-1]
        change = draw(st.sampled_from(["odd", "tag", "wrap", "graft", "delete", "rename"]))
        if change == "odd":
            inner[key] = draw(ODD)
        elif change == "tag":
            inner[key] = {draw(st.sampled_from(TAGS)): inner[key]}
        elif change == "wrap":
            for _ in range(draw(st.sampled_from([1, 40, 300]))):
                inner[key] = [inner[key]]
        elif change == "graft":
            inner[key] = copy.deepcopy(at(root, draw(st.sampled_from(list(places(root))))))
        elif change == "delete" and len(root) > 1:
            del inner[key]
        elif change == "rename" and isinstance(inner, dict):
            inner[draw(st.sampled_from(TAGS))] = inner.pop(key)
        if not list(places(root)):
            root = [None]
    return json.dumps(root[0]).encode(), blob


@st.composite
def changed_tensors(draw):
    """A message whose safetensors part lies: about its length, dtypes, shapes, offsets, names."""
    text, blob = encoded([draw(TENSORS) for _ in range(draw(st.integers(1, 3)))])
    (length,) = struct.unpack_from("<Q", blob)
    sound = json.loads(blob[8 : 8 + length])
    header, payload = [{name: sound[name] for name in sorted(sound)}], blob[8 + length :]
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(header))))
        inner, key = at(header, path[:-1]), path[-1]
        if draw(st.booleans()) or not isinstance(inner, dict):
            inner[key] = copy.deepcopy(draw(HEADER_VALUES))
        else:
            inner[
                draw(
                    st.sampled_from(["0", "1", "7", "", "__metadata__", "dtype", "shape", "../../etc/passwd"])
                )
            ] = inner.pop(key)
    written = json.dumps(header[0]).encode()
    told = draw(st.sampled_from([len(written)] * 6 + [0, 1, len(written) + 1, 2**32, 2**63, 2**64 - 1]))
    payload = draw(st.sampled_from([payload, payload, payload[:-1], payload + b"\0", b""]))
    return text, struct.pack("<Q", told) + written + payload


@examples(250)
@given(message=changed_structure())
def test_changed_structure_gives_a_plain_value_or_a_wire_error(message):
    try:
        decode(*message)
    except wire.WireError:
        pass


@examples(250)
@given(message=changed_tensors())
def test_lies_about_tensors_give_a_plain_value_or_a_wire_error(message):
    try:
        decode(*message)
    except wire.WireError:
        pass


@examples(200)
@given(data=st.data())
def test_changed_bytes_give_a_plain_value_or_a_wire_error(data):
    text, blob = encoded(data.draw(VALUES))
    try:
        decode(damaged(data.draw, text), damaged(data.draw, blob))
    except wire.WireError:
        pass


@examples(200)
@given(data=st.data())
def test_a_stream_of_changed_frames_ends_in_values_or_an_error(data):
    """Frames in pieces of any size, with headers that lie: what comes out is plain, and then the end or a WireError."""
    stream = b""
    for _ in range(data.draw(st.integers(1, 3))):
        text, blob = encoded(data.draw(VALUES))
        lies = data.draw(
            st.sampled_from([(0, 0)] * 3 + [(1, 0), (0, 1), (-1, 0), (2**31, 0), (0, 2**63), (0, 2**40)])
        )
        sizes = (max(0, len(text) + lies[0]), len(blob) + lies[1])
        stream += wire.HEADER.pack(*sizes) + text + blob
    stream = damaged(data.draw, stream)
    ours, theirs = socket.socketpair()
    with ours, theirs, at_most(seconds=3):
        theirs.setblocking(False)
        inbox = wire.Inbox(ours, limit=2**20)
        ours.settimeout(1)
        piece = data.draw(st.sampled_from([7, 100, 10_000]))
        try:
            for start in range(0, min(len(stream), 150_000), piece):
                theirs.send(stream[start : start + piece])
                be_plain_unless_nothing(inbox.read())
                assert len(inbox._buffer) <= 2**20 + wire.HEADER.size
            theirs.close()
            while True:
                be_plain_unless_nothing(inbox.read())
        except (wire.WireError, EOFError):
            pass


def be_plain_unless_nothing(value: object) -> None:
    if value is not wire.Inbox.NOTHING:
        be_plain(value)


# --- bombs: small to send, large to hold -----------------------------------------------------------------


def of_one_kind(entries: int) -> bytes:
    header = (
        "{"
        + ",".join(f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(entries))
        + "}"
    )
    return struct.pack("<Q", len(header)) + header.encode()


BOMBS = {
    "empty lists": (b"[" + b"[]," * 4_000_000 + b"[]]", b""),
    "empty objects": (b"[" + b"{}," * 4_000_000 + b"{}]", b""),
    "numbers": (b"[" + b"1.5," * 3_000_000 + b"1]", b""),
    "short texts": (b"[" + b'"ab",' * 2_000_000 + b"1]", b""),
    "a text that never ends": (b"[" + b"[]," * 4_000_000 + b'"' + b"[]," * 1_000_000, b""),
    "escapes": (b'["' + b"\\\\" * 4_000_000 + b'"' + b",[]" * 2_000_000 + b"]", b""),
    "keys that collide": (json.dumps({"dict": [[n * (2**61 - 1), 0] for n in range(60_000)]}).encode(), b""),
    "keys that collide in many dicts": (
        json.dumps([{"dict": [[n * (2**61 - 1), 0] for n in range(1900)]}] * 50).encode(),
        b"",
    ),
    "fractions that collide": (
        json.dumps({"dict": [[float(n * 2**61), 0] for n in range(60_000)]}).encode(),
        b"",
    ),
    "one tensor a thousand times": (
        json.dumps([{"tensor": 0}] * 1000).encode(),
        wire.encode(torch.ones(1000))[1],
    ),
    "many tensors": (b"[]", of_one_kind(60_000)),
    "empty lists in another encoding": (("[" + "[]," * 2_000_000 + "[]]").encode("utf-16-le"), b""),
    "long numbers": (b"[" + b"9" * 4000 + b"," + b"9" * 4_000_000 + b"]", b""),
    "spaces": (b" " * 8_000_000 + b"1", b""),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_does_not_go_off(name):
    text, blob = BOMBS[name]
    tracemalloc.start()
    try:
        with at_most(seconds=20):  # the trace itself takes most of it
            try:
                wire.decode(text, blob)
            except wire.WireError:
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * (len(text) + len(blob)) + 48 * 2**20, f"{peak / 2**20:.0f} MiB"


def test_a_long_text_is_no_bomb():
    """A notebook that ran travels as one text full of brackets and commas."""
    text = '[{"a": [1, 2, 3]}, "\\n"]' * 200_000
    assert wire.decode(*wire.encode({"notebook": text}))["notebook"] == text


def test_memory_of_a_reader_stays_near_what_was_sent():
    """Hundreds of headers that announce as much as is allowed: nothing is reserved for what does not come."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pairs = [socket.socketpair() for _ in range(200)]
    for ours, theirs in pairs:
        theirs.sendall(wire.HEADER.pack(1000, wire.DEFAULT_LIMIT - 1000) + b"x" * 100)
        assert wire.Inbox(ours).read() is wire.Inbox.NOTHING
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    for pair in pairs:
        for end in pair:
            end.close()
    assert grown < 64 * 2**20
