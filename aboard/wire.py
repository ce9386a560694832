"""Values on a socket: JSON for structure, safetensors for numbers, nothing that can run.

A message is one *value*: None, bool, int, float, str, list, tuple, dict, `torch.dtype` or a dense CPU `torch.Tensor`,
nested at will. `encode` turns it into two byte strings and `decode` builds it again from nothing but those bytes, so
what arrives is always a plain object of exactly these types, whoever sent it. Objects that pretend to be equal to
everything, subclasses and lazily computed tensors end here: they become data or a `WireError`.

Frame on the socket: 4 bytes length of the JSON, 8 bytes length of the safetensors part (both big-endian), then the two.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from safetensors.torch import load as _load_tensors
from safetensors.torch import save as _save_tensors

HEADER = struct.Struct(">IQ")
MAX_DEPTH = 32
MAX_ITEMS = 200_000
MAX_TENSORS = 20_000
MAX_DIMS = 64
MAX_ODD_KEYS = 2_000  # in one dict, of keys that are no text: numbers can be chosen so that each collides with all others
DEFAULT_LIMIT = 256 * 2**20  # bytes in one message
TEXT_LIMIT = 16 * 2**20  # of them in its JSON

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64,
    )
}  # fmt: skip
_KNOWN = frozenset(DTYPES.values())
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")  # a lone surrogate, which can neither be stored nor printed
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class WireError(Exception):
    """A value that cannot cross, or bytes that are not a message. The text is one sentence a learner can read."""


def _pack(value: Any, tensors: list[torch.Tensor], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WireError(f"a value nested more than {MAX_DEPTH} levels deep")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) < 2**53 else {"int": hex(value)}
    if kind is float:
        return value if value - value == 0 else {"float": repr(value)}
    if kind is list:
        return [_pack(item, tensors, depth + 1) for item in value]
    if kind is tuple or kind is torch.Size:
        return {"tuple": [_pack(item, tensors, depth + 1) for item in value]}
    if kind is dict:
        if _odd_keys(value) > MAX_ODD_KEYS:
            raise WireError(f"a dict with more than {MAX_ODD_KEYS:,} keys that are not strings")
        return {
            "dict": [[_pack(k, tensors, depth + 1), _pack(v, tensors, depth + 1)] for k, v in value.items()]
        }
    if kind is torch.dtype:
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.Tensor):
        if len(tensors) == MAX_TENSORS:
            raise WireError(f"more than {MAX_TENSORS:,} tensors")
        tensors.append(_plain_tensor(value))
        return {"tensor": len(tensors) - 1}
    raise WireError(
        f"a value of type {kind.__name__!r}; return tensors, numbers, strings, lists, tuples or dicts"
    )


def _plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A dense, contiguous CPU copy that shares memory with nothing, or a WireError saying why there is none."""
    if type(tensor).__name__ == "DTensor":
        raise WireError("a DTensor; return its .to_local() or .full_tensor()")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise WireError(f"a tensor with layout {tensor.layout}; return a dense one")
    if tensor.device.type == "meta":
        raise WireError("a tensor on the meta device: it has a shape but no values")
    if str(tensor.dtype).removeprefix("torch.") not in DTYPES:
        raise WireError(f"a tensor of dtype {tensor.dtype}")
    if tensor.dim() > MAX_DIMS:
        raise WireError(f"a tensor of {tensor.dim()} dimensions; at most {MAX_DIMS} can be returned")
    size = (
        tensor.numel() * tensor.element_size()
    )  # asked before .contiguous(): an expanded tensor can be huge
    if size > DEFAULT_LIMIT:
        raise WireError(f"a tensor of {size:,} bytes; at most {DEFAULT_LIMIT:,} can be returned")
    plain = tensor.detach().to("cpu").as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    return plain.clone(memory_format=torch.contiguous_format)


def encode(value: Any) -> tuple[bytes, bytes]:
    """`value` as (JSON, safetensors) bytes. Raises WireError naming what cannot cross."""
    tensors: list[torch.Tensor] = []
    try:
        text = json.dumps(_pack(value, tensors, 0), allow_nan=False, ensure_ascii=True).encode("ascii")
    except RecursionError:
        raise WireError("a value that contains itself") from None
    blob = _save_tensors({str(i): t for i, t in enumerate(tensors)}) if tensors else b""
    return text, blob


def _unpack(node: Any, tensors: dict[str, torch.Tensor], budget: Iterator[int], depth: int) -> Any:
    if depth > 2 * MAX_DEPTH or next(budget, None) is None:
        raise WireError("a message that is too deep or has too many parts")
    if node is None or type(node) in (bool, int, float):
        return node
    if type(node) is str:
        return node if node.isascii() else _HALF_A_CHARACTER.sub("\ufffd", node)
    if type(node) is list:
        return [_unpack(item, tensors, budget, depth + 1) for item in node]
    if type(node) is dict and len(node) == 1:
        ((tag, body),) = node.items()
        if tag == "tensor" and type(body) is int and str(body) in tensors:
            # Each is handed out once: a small message must not become a large value.
            return tensors.pop(str(body))
        if tag == "tuple" and type(body) is list:
            return tuple(_unpack(item, tensors, budget, depth + 1) for item in body)
        if tag == "dict" and type(body) is list and all(type(p) is list and len(p) == 2 for p in body):
            pairs = [
                (_unpack(k, tensors, budget, depth + 1), _unpack(v, tensors, budget, depth + 1))
                for k, v in body
            ]
            if any(type(key) not in (str, int, float, bool, type(None), tuple) for key, _ in pairs):
                raise WireError("a dict whose keys are not plain values")
            if _odd_keys(key for key, _ in pairs) > MAX_ODD_KEYS:
                raise WireError("a dict with too many keys that are not strings")
            try:
                return dict(pairs)
            except TypeError:
                raise WireError("a dict whose keys are not plain values") from None
        if tag == "int" and type(body) is str and len(body) <= 1024:
            return int(body, 16)
        if tag == "float" and body in ("nan", "inf", "-inf"):
            return float(body)
        if tag == "dtype" and body in DTYPES:
            return DTYPES[body]
    raise WireError("bytes that are not a message")


def decode(text: bytes, blob: bytes) -> Any:
    """The value in (JSON, safetensors) bytes. Raises WireError for anything `encode` would not have written."""
    try:
        _refuse_too_many_parts(text)
        tensors = _tensors_in(blob) if blob else {}
        node = json.loads(text.decode("ascii"), parse_constant=_refuse_constant)
        return _unpack(node, tensors, iter(range(MAX_ITEMS)), 0)
    except WireError:
        raise
    except Exception:  # whatever a parser says of bytes that somebody made up
        raise WireError("bytes that are not a message") from None


def _tensors_in(blob: bytes) -> dict[str, torch.Tensor]:
    (header,) = struct.unpack_from("<Q", blob)
    if header > 200 * MAX_TENSORS:
        raise WireError("a message with too many tensors")
    tensors: dict[str, torch.Tensor] = _load_tensors(blob)
    if len(tensors) > MAX_TENSORS:
        raise WireError("a message with too many tensors")
    for name, tensor in tensors.items():
        if tensor.dtype not in _KNOWN or tensor.dim() > MAX_DIMS:
            raise WireError("a tensor that is none of the known kinds")
        # A byte that is neither 0 nor 1 would be true and yet not equal to true.
        if tensor.dtype is torch.bool:
            tensors[name] = tensor.view(torch.uint8) != 0
    return tensors


def _refuse_too_many_parts(text: bytes) -> None:
    """A value of three bytes, `[],`, becomes an object of 64: count before anything is made of them."""
    if len(text) < 2**20:
        return
    parts = end = 0
    for found in _STRING.finditer(text):
        parts += 1 + _separators(text, end, found.start())
        end = found.end()
        if parts > 4 * MAX_ITEMS:
            break
    if parts + _separators(text, end, len(text)) > 4 * MAX_ITEMS:
        raise WireError("a message that has too many parts")


def _separators(text: bytes, start: int, end: int) -> int:
    return text.count(b",", start, end) + text.count(b"[", start, end) + text.count(b"{", start, end)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _odd_keys(keys: Iterable[Any]) -> int:
    return sum(type(key) is not str for key in keys)


def send(sock: socket.socket, value: Any, lock: Any = None) -> None:
    """Write one message; blocks until the kernel has taken it or the socket's timeout ends."""
    text, blob = encode(value)
    parts = HEADER.pack(len(text), len(blob)) + text
    if lock is None:
        sock.sendall(parts)
        if blob:
            sock.sendall(blob)
        return
    with lock:
        sock.sendall(parts)
        if blob:
            sock.sendall(blob)


def receive(sock: socket.socket, limit: int = DEFAULT_LIMIT, deadline: float | None = None) -> Any:
    """Read one message, blocking. EOFError when the other end is gone; TimeoutError after `deadline` (monotonic)."""
    inbox = Inbox(sock, limit)
    while True:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
        message = inbox.read(exactly=True)
        if message is not Inbox.NOTHING:
            return message


class Inbox:
    """Takes messages off a socket piece by piece, so that one reader can attend to many senders.

    Memory is reserved only as bytes arrive: a header that announces a gigabyte costs nothing until it is sent, and a
    message over `limit` bytes is refused at its header.
    """

    NOTHING = object()

    def __init__(self, sock: socket.socket, limit: int = DEFAULT_LIMIT) -> None:
        self.sock, self.limit = sock, limit
        self.taken = 0  # bytes of all messages so far
        self._buffer = bytearray()

    def read(self, exactly: bool = False) -> Any:
        """One `recv`; the next complete message or `NOTHING`. `exactly`: never read past the end of this message."""
        message = self._take()
        if message is not self.NOTHING:
            return message
        want = 1 << 20
        if exactly:
            want = min(want, self._missing())
        data = self.sock.recv(want)
        if not data:
            raise EOFError
        self._buffer += data
        return self._take()

    def _sizes(self) -> tuple[int, int]:
        text, blob = HEADER.unpack_from(self._buffer)
        if text + blob > self.limit:
            raise WireError(f"a message of {text + blob:,} bytes; at most {self.limit:,} are allowed")
        if text > TEXT_LIMIT:
            raise WireError(
                f"a message with {text:,} bytes beside its tensors; at most {TEXT_LIMIT:,} are allowed"
            )
        return text, blob

    def _missing(self) -> int:
        if len(self._buffer) < HEADER.size:
            return HEADER.size - len(self._buffer)
        return HEADER.size + sum(self._sizes()) - len(self._buffer)

    def _take(self) -> Any:
        if len(self._buffer) < HEADER.size:
            return self.NOTHING
        text, blob = self._sizes()
        end = HEADER.size + text + blob
        if len(self._buffer) < end:
            return self.NOTHING
        with memoryview(self._buffer) as view:
            parts = bytes(view[HEADER.size : HEADER.size + text]), bytes(view[HEADER.size + text : end])
        del self._buffer[:end]
        self.taken += end
        return decode(*parts)
