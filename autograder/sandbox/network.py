"""One network interface for each rank, joined by a switch, all without root.

The server stands in the switch's own namespace and sees one port per rank. What a port has received is what that rank
has sent: counted by the kernel, on a wire the rank cannot go around and in a namespace it cannot enter. What a port does not
show, how much of it was messages and how much only acknowledged others, the kernel counts in each rank's namespace.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from aboard.ranks.call import Traffic
from autograder.sandbox.kernel import CLONE_NEWNET, setns, unshare
from autograder.sandbox.outer import NETWORK
from autograder.sandbox.sockets import Sockets

INTERFACE = "hsn0"
# A rank's interface outlives the submission that used it, so no connection may: none waits for late packets, and what
# nobody owns any more is tried once and dropped. And none keeps much that has not left: what has been sent to another rank is
# on its way there, and counted, or it waits in a buffer of 128 KiB.
SETTINGS = {
    "tcp_max_tw_buckets": "0",
    "tcp_orphan_retries": "1",
    "tcp_fin_timeout": "1",
    "tcp_wmem": "4096 16384 131072",
}
# A table of a namespace's own, since Linux 6.1: its connections are told without a walk through the machine's table.
TABLE = ("/proc/sys/net/ipv4/tcp_child_ehash_entries", "1024")


class Switch:
    """Namespaces 0 … ranks-1, each with interface `hsn0` (address 10.77.0.(r+1)) and a loopback of its own."""

    def __init__(self, ranks: int) -> None:
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.rooms: list[int] = []
        self.sockets: list[Sockets | None] = []  # of each rank; None where the kernel does not tell of them
        with suppress(OSError), open(TABLE[0], "w") as file:
            file.write(TABLE[1])
        for _ in range(ranks):
            unshare(CLONE_NEWNET)
            self.rooms.append(os.open("/proc/self/ns/net", os.O_RDONLY))
            try:
                self.sockets.append(Sockets())
            except OSError:
                self.sockets.append(None)
            setns(here, CLONE_NEWNET)
        me = os.getpid()
        lines = ["link set lo up", "link add switch type bridge forward_delay 0", "link set switch up"]
        for rank, fd in enumerate(self.rooms):
            lines += [
                f"link add port{rank} type veth peer name {INTERFACE} netns /proc/{me}/fd/{fd}",
                f"link set port{rank} master switch",
                f"link set port{rank} up",
            ]
        _ip(lines)
        for rank, fd in enumerate(self.rooms):
            setns(fd, CLONE_NEWNET)
            _ip(
                [
                    f"addr add {NETWORK}.{rank + 1}/24 dev {INTERFACE}",
                    f"link set {INTERFACE} up",
                    "link set lo up",
                ]
            )
            for name, value in SETTINGS.items():
                with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
                    file.write(value)
        setns(here, CLONE_NEWNET)
        os.close(here)

    def counters(self, ranks: int) -> tuple[list[int], list[int], list[int]]:
        """Bytes sent, bytes received and packets sent by ranks 0 … ranks-1 since the switch was made."""
        sent, received, packets = [0] * ranks, [0] * ranks, [0] * ranks
        with open("/proc/self/net/dev") as file:
            for line in file:
                name, _, rest = line.strip().partition(":")
                if name.startswith("port") and int(name[4:]) < ranks:
                    fields = rest.split()
                    rank = int(name[4:])
                    sent[rank], packets[rank], received[rank] = int(fields[0]), int(fields[1]), int(fields[8])
        return sent, received, packets


def sent_so_far(pid: int, sent_bytes: int, packets: int) -> Traffic:
    """All that the namespace of process `pid` has sent since it was made; `sent_bytes` and `packets` as its port shows them.

    Nobody in a room can change these counters, for that takes a capability.
    """
    try:
        tables = _tables(f"/proc/{pid}/net/netstat") | _tables(f"/proc/{pid}/net/snmp")
        with open(f"/proc/{pid}/net/snmp6") as file:
            six = dict(line.split() for line in file)
    except OSError:
        return Traffic(sent_bytes, packets, 0, 0)  # the room has been closed, and nobody will ask
    datagrams = [tables[kind].get("OutDatagrams", 0) for kind in ("Udp", "UdpLite")]
    datagrams += [int(six.get(f"{kind}6OutDatagrams", 0)) for kind in ("Udp", "UdpLite")]
    ends = tables["Tcp"]["ActiveOpens"] + tables["Tcp"]["PassiveOpens"]
    return Traffic(sent_bytes, packets, tables["TcpExt"]["TCPOrigDataSent"] + sum(datagrams), ends)


def _tables(path: str) -> dict[str, dict[str, int]]:
    """Pairs of lines, `Tcp: names` and `Tcp: values`."""
    with open(path) as file:
        lines = [line.split() for line in file]
    return {
        names[0].rstrip(":"): dict(zip(names[1:], map(int, values[1:]), strict=True))
        for names, values in zip(lines[::2], lines[1::2], strict=True)
    }


def _ip(lines: list[str]) -> None:
    subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, capture_output=True
    )
