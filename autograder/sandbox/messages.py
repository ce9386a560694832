"""JSON on a socket, for what needs no tensors: a program that speaks it starts without PyTorch.

Frame: 4 bytes length (big-endian), then the JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

LIMIT = 128 * 2**20  # bytes of one message


def send(line: socket.socket, value: Any) -> None:
    text = json.dumps(value).encode()
    line.sendall(struct.pack(">I", len(text)) + text)


def receive(line: socket.socket, deadline: float | None = None) -> Any:
    """The next message. Raises EOFError when the other side has hung up, TimeoutError after `deadline` (monotonic),
    ValueError for what is no message."""
    (length,) = struct.unpack(">I", _exactly(line, 4, deadline))
    if length > LIMIT:
        raise ValueError(f"a message of {length} bytes")
    return json.loads(_exactly(line, length, deadline))


def _exactly(line: socket.socket, count: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            line.settimeout(left)
        part = line.recv(min(count - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
