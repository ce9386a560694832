"""What waits in the sockets of a room: bytes that were sent and not yet received, as the kernel has them (sock_diag(7)).

They belong to no process, and the descriptors of a process do not show them: a connection that nobody has accepted holds as
much as any other, and so does one whose other end is closed.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

from autograder.sandbox.outer import OPEN_FILES

SOCKET_BUFFER = 212_992  # bytes one may hold: net.core.wmem_default as Linux has it; seccomp keeps it at that
PIPE = 65_536  # bytes one pipe may hold; seccomp keeps it at that, too
# A message may bring descriptors with it, the kernel does not tell how many, and each may be of a pipe. All that one user may
# have on their way are as many as a process may have open.
ON_THE_WAY = OPEN_FILES * PIPE
MOMENT_S = 0.01  # what only passes through has been received by then; two looks or three see what has not
# Before Linux 6.1 the kernel walks through the connections of the whole machine, which may take milliseconds; a look at those
# of a room waits for so many times as long as the last one took.
REST = 100

# linux/netlink.h, sock_diag.h, unix_diag.h, inet_diag.h
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, DUMP, DONE, ERROR = 4, 20, 0x301, 3, 2
SHOW_RQLEN, RQLEN, LISTENS, ALL = 0x10, 4, 10, 0xFFFFFFFF
WITHOUT_DATA = 1 << LISTENS | 1 << 13  # also bound ones; of both the kernel has tables for the whole machine
HEADER = struct.Struct("=IHHII")
UNIX_REQUEST, UNIX_SOCKET, ATTRIBUTE = (
    struct.Struct("=BBHIIIII"),
    struct.Struct("=BBBxI8x"),
    struct.Struct("=HH"),
)
INET_REQUEST, INET_SOCKET = struct.Struct("=BBBxI48x"), struct.Struct("=8x16s16s16xII8x")


class Sockets:
    """The sockets of the network namespace in which this was made. Raises OSError where the kernel does not tell of them."""

    def __init__(self) -> None:
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        self._since: dict[int, float] = {}  # unix socket → when something was first seen to wait there
        self._connections, self._look_at = 0, 0.0
        self.waiting()

    def waiting(self) -> int:
        """Bytes that wait in sockets whose other end is in the same namespace, or was.

        What waits in a connection to another rank has come over the wire, where it was counted.
        """
        now = time.monotonic()
        total = self._in_unix_sockets(now)
        if now >= self._look_at:
            self._connections = self._in_connections()
            self._look_at = now + REST * (time.monotonic() - now)
        return total + self._connections

    def _in_unix_sockets(self, now: float) -> int:
        total = 0
        waits: dict[int, float] = {}
        for inode, listens, length in self._unix():
            # Of connections that nobody has accepted, only their number is told.
            total += length * SOCKET_BUFFER if listens else length
            if length and not listens:
                waits[inode] = self._since.get(inode, now)
        self._since = waits
        if any(now - since > MOMENT_S for since in waits.values()):
            total += ON_THE_WAY
        return total

    def _in_connections(self) -> int:
        total = 0
        for family in (socket.AF_INET, socket.AF_INET6):
            for source, target, waiting in self._inet(family, socket.IPPROTO_TCP):
                if source == target or _is_loopback(source) or _is_loopback(target):
                    total += waiting
            total += sum(waiting for *_, waiting in self._inet(family, socket.IPPROTO_UDP))
        return total

    def _unix(self) -> Iterator[tuple[int, bool, int]]:
        """Of each socket its inode, whether it listens, and the bytes, or the connections, that wait there."""
        for message in self._dump(UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, ALL, 0, SHOW_RQLEN, ALL, ALL)):
            _, _, state, inode = UNIX_SOCKET.unpack_from(message)
            at = UNIX_SOCKET.size
            while at + ATTRIBUTE.size <= len(message):
                length, kind = ATTRIBUTE.unpack_from(message, at)
                if kind == RQLEN:
                    yield inode, state == LISTENS, int.from_bytes(message[at + 4 : at + 8], "little")
                at += max(4, (length + 3) & ~3)

    def _inet(self, family: int, protocol: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Of each socket in which something may wait its address, that of its other end, and the bytes."""
        for message in self._dump(INET_REQUEST.pack(family, protocol, 0, ALL & ~WITHOUT_DATA)):
            source, target, unread, unsent = INET_SOCKET.unpack_from(message)
            yield source, target, unread + unsent

    def _dump(self, request: bytes) -> Iterator[bytes]:
        self._kernel.send(HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, DUMP, 0, 0) + request)
        while True:
            data = self._kernel.recv(1 << 15)
            while data:
                length, kind, _, _, _ = HEADER.unpack_from(data)
                if kind == DONE:
                    return
                if kind == ERROR:
                    number = -int.from_bytes(data[16:20], "little", signed=True)
                    raise OSError(number, "sock_diag")
                yield data[HEADER.size : length]
                data = data[(length + 3) & ~3 :]


def _is_loopback(address: bytes) -> bool:
    """Of 16 bytes: IPv4 in the first four, IPv6, or IPv4 as IPv6 writes it."""
    return (
        address[0] == 127 and not any(address[4:])
        or address == bytes(15) + b"\x01"
        or address[:12] == bytes(10) + b"\xff\xff" and address[12] == 127
    )  # fmt: skip
