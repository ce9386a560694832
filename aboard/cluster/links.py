"""One link for each node, joined by a switch: interface `hsn0` or what a site calls it there, `portN` here. To be called with the right to do so.

Both ends of a link are limited to the same rate, so that a node can neither send nor receive faster.
"""

from __future__ import annotations

import re
import subprocess

from aboard.errors import UserError

LOGIN = "login"  # the host that is no node
SUBNET = "10.78.0"  # of these namespaces alone
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


def bits_per_second(rate: str) -> float:
    """Of a rate such as 10mbit or 1gbit. Raises UserError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)", rate.strip().lower())
    bits = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 1e4 <= bits <= 1e12:
        raise UserError(
            f"{rate!r} is no rate of a link; write it as 10mbit or 1gbit, from 10kbit to 1000gbit."
        )
    return bits


def address(number: int) -> str:
    """Of host `number`: 0 is the login node, 1 … the nodes."""
    return f"{SUBNET}.{number + 1}"


def make_switch() -> None:
    _ip("link set lo up", "link add switch type bridge forward_delay 0", "link set switch up")


def plug_in(number: int, keeper: int, interface: str, rate: str) -> None:
    """Give the host whose network is that of process `keeper` its link."""
    _ip(
        f"link add port{number} type veth peer name {interface} netns {keeper}",
        f"link set port{number} master switch up",
    )
    _ip(
        f"addr add {address(number)}/24 dev {interface}",
        f"link set {interface} up",
        "link set lo up",
        inside=keeper,
    )
    set_rate(number, keeper, interface, rate)


def set_rate(number: int, keeper: int, interface: str, rate: str) -> None:
    bits = bits_per_second(rate)
    burst = max(
        65_536, int(bits / 8 * 0.002)
    )  # two milliseconds' worth: what a timer's tick lets through at once
    shape = ["root", "tbf", "rate", f"{int(bits)}bit", "burst", str(burst), "latency", "100ms"]
    _run(["tc", "qdisc", "replace", "dev", f"port{number}", *shape])
    _run(["tc", "qdisc", "replace", "dev", interface, *shape], inside=keeper)


def set_up(number: int, up: bool) -> None:
    """Plug the cable of a host in, or pull it."""
    _ip(f"link set port{number} {'up' if up else 'down'}")


def bytes_of(number: int) -> tuple[int, int]:
    """Bytes host `number` has sent and received, counted by the kernel at the switch's end of its link."""
    with open("/proc/self/net/dev") as file:
        for line in file:
            name, _, rest = line.strip().partition(":")
            if name == f"port{number}":
                fields = rest.split()
                return int(fields[0]), int(fields[8])
    return 0, 0


def _ip(*lines: str, inside: int | None = None) -> None:
    _run(["ip", "-batch", "-"], inside, "\n".join(lines) + "\n")


def _run(command: list[str], inside: int | None = None, text: str | None = None) -> None:
    enter = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
    subprocess.run([*enter, *command], input=text, text=True, check=True, capture_output=True)
