"""How much memory a process has made its own, as the kernel counts it, read from outside that process.

Resident memory after a fork holds pages shared with the parent and pages of libraries, which say nothing about the
program. What is counted is *anonymous* memory (`RssAnon`), as growth over a baseline. Its highest value is taken from
samples and from the kernel's own high-water mark `VmHWM`, minus the file pages at the end, whichever is larger: a
spike between two samples is in the second, and neither can be told anything by the program.
"""

from __future__ import annotations

import ctypes
import resource
import threading
from collections.abc import Callable

import torch

FIELDS = ("VmHWM", "RssAnon", "RssFile", "RssShmem")


def read_status(pid: int) -> dict[str, int]:
    """VmHWM, RssAnon, RssFile, RssShmem of a process in bytes; zeros when it is gone or there is no /proc."""
    found = dict.fromkeys(FIELDS, 0)
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                key, _, rest = line.partition(":")
                if key in found:
                    found[key] = int(rest.split()[0]) * 1024
    except (OSError, ValueError):
        pass
    return found


def forget_high_water(pid: int) -> None:
    """Ask the kernel to start VmHWM of `pid` anew."""
    try:
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


class PeakWatch:
    """Samples `pids()` until `stop()`, which gives each one's peak growth in bytes.

    The baseline of a process is its anonymous memory when the watch starts, or the one handed in.
    """

    INTERVAL_S = 0.004

    def __init__(self, pids: list[int], baselines: list[int] | None = None) -> None:
        self.pids = pids
        self._highest = [0] * len(pids)
        self._over = threading.Event()
        for pid in pids:
            forget_high_water(pid)
        self.baselines = baselines or [read_status(pid)["RssAnon"] for pid in pids]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(self.INTERVAL_S):
            for i, pid in enumerate(self.pids):
                self._highest[i] = max(self._highest[i], anonymous(pid))

    def stop(self) -> list[int]:
        """Peak growth of each process in bytes since the watch began."""
        self._over.set()
        self._thread.join()
        peaks = []
        for pid, highest, baseline in zip(self.pids, self._highest, self.baselines, strict=True):
            end = read_status(pid)
            peaks.append(
                max(highest, end["VmHWM"] - end["RssFile"] - end["RssShmem"], end["RssAnon"]) - baseline
            )
        return [max(0, peak) for peak in peaks]


def anonymous(pid: int) -> int:
    """Anonymous resident memory of `pid` in bytes, in one short read."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
        return (int(fields[1]) - int(fields[2])) * 4096
    except (OSError, ValueError, IndexError):
        return 0


Watch = Callable[[list[int]], PeakWatch]


LARGE = 16 * 1024  # bytes; a tensor above this gets memory of its own from `exact_memory` on
_held: list[torch.Tensor] = []


def exact_memory() -> None:
    """From here on, memory that this rank has is memory that it uses, to a few kB per tensor. Call it once, first thing.

    By itself glibc keeps blocks that are freed, those of the process that this one was forked from among them, so that
    what a program needs would depend on what happened before. Here free blocks go back to the kernel, their addresses are
    taken so that nobody uses them again, and larger blocks come from the kernel and return to it when freed. What went
    back is made up for, so that growth begins at zero and not below. With another C library than glibc nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
        libc.malloc.argtypes, libc.sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_ssize_t]
        before = _own()
        libc.mallopt(-3, LARGE)  # M_MMAP_THRESHOLD of malloc.h
        libc.malloc_trim(0)
        end = libc.sbrk(0)
        for _ in range(100_000):
            if (
                libc.malloc(LARGE - 64) or end
            ) >= end:  # the heap had to grow: nothing as large was free any more
                break
        _held.append(torch.ones(max(0, before - _own()) // 4 + 500_000))
    except (OSError, AttributeError):
        pass


def _own() -> int:
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * resource.getpagesize()
