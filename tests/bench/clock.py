"""Processor time of everything this thread starts from now on, whoever waits for it or does not.

`wait4` adds up only what is waited for. When a process namespace is ended from outside, as a sandbox does, the kernel
itself takes the remaining processes away, and their time is in nobody's sum. Its task clock counts them all.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import time

_CALL = {"x86_64": 298, "aarch64": 241}.get(platform.machine())  # perf_event_open
_SOFTWARE, _TASK_CLOCK, _SIZE = 1, 1, 64
_INHERIT, _NOT_THE_KERNELS_OWN = (
    1 << 1,
    0b11 << 5,
)  # with the second, ordinary users may ask; the time is the same
_CLOEXEC = 8


class TaskClock:
    """Counts from the moment it is made. OSError where the kernel does not allow it (perf_event_paranoid above 2)."""

    def __init__(self) -> None:
        if _CALL is None:
            raise OSError("not known for this processor")
        flags = _INHERIT | _NOT_THE_KERNELS_OWN
        asked = struct.pack("IIQQQQQIIQ", _SOFTWARE, _SIZE, _TASK_CLOCK, 0, 0, 0, flags, 0, 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        # Of this thread (0), on every processor (-1), in no group (-1).
        self._fd = libc.syscall(_CALL, asked, 0, -1, -1, ctypes.c_ulong(_CLOEXEC))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._mine = time.thread_time()

    def stop(self) -> float:
        """Seconds until now, without this thread's own."""
        (counted,) = struct.unpack("Q", os.read(self._fd, 8))
        os.close(self._fd)
        return max(0.0, counted / 1e9 - (time.thread_time() - self._mine))
