"""A cluster's processes, as they are seen from outside it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "ABOARD_CLUSTER"  # in the environment of every process of a cluster


def start_time(pid: int) -> int:
    """When it started, in the kernel's ticks, which tells it from a later process of the same number; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def children(pid: int) -> list[int]:
    try:
        return [int(field) for field in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def seen_from_here(inside: dict[str, int], first: int | None) -> dict[str, int]:
    """host → process, numbered as the cluster does → the same as they are numbered here."""
    numbers: dict[int, int] = {}
    below = [first] if first else []
    for pid in below:
        below += children(pid)
        for line in _status(pid):
            if line.startswith("NSpid:") and len(line.split()) > 2:
                numbers[int(line.split()[2])] = pid
    return {host: numbers[pid] for host, pid in inside.items() if pid in numbers}


def seconds_wanted(name: str) -> dict[int, float]:
    """process → seconds for which the cluster's processes have run, or have waited for a core to run on, so far."""
    mark, found = f"{MARK}={name}".encode(), {}
    for pid in _own_processes():
        if mark in _environment(pid):
            try:
                threads = os.listdir(f"/proc/{pid}/task")
                times = [Path(f"/proc/{pid}/task/{one}/schedstat").read_text().split()[:2] for one in threads]
            except OSError:
                continue
            found[pid] = sum(int(part) for both in times for part in both) / 1e9
    return found


def end_all(name: str, folder: str) -> None:
    """End every process of the cluster `name` but this one: those that carry its mark, Slurm's tasks, and who holds a
    socket in its `folder` ("" when there is none): a slurmstepd writes its title over its environment."""
    marks = (f"{MARK}={name}".encode(), f"SLURM_CLUSTER_NAME={name}".encode())
    for _ in range(50):
        found = [pid for pid in _own_processes() if any(mark in _environment(pid) for mark in marks)]
        found += holding_sockets_in(folder) if folder else []
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def _own_processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()]


def holding_sockets_in(folder: str) -> list[int]:
    """Processes but this one that have a socket open which is bound to a path in `folder`."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    fields = [line.split(None, 7) for line in lines]
    bound = {f"socket:[{one[6]}]" for one in fields if len(one) == 8 and one[7].startswith(folder + "/")}
    return [pid for pid in _own_processes() if bound & _open_files(pid)] if bound else []


def _open_files(pid: int) -> set[str]:
    found = set()
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            found.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
    except OSError:
        pass
    return found


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _status(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
