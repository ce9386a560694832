"""Where in the program a rank is: whose line runs, and whether the process waits within PyTorch for others."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any

import torch

_TORCH = str(Path(torch.__file__).parent)
_NOT_THE_LEARNER = (
    str(Path(__file__).parents[1]),
    _TORCH,
    str(Path(threading.__file__).parent),
    # What torch wraps its functions in, so that they warn when they are old.
    sysconfig.get_paths()["purelib"],
)

# Numbers of the system calls in which a thread waits: for another thread; and for a clock, a socket or a reply, as a store
# does (clock_nanosleep, nanosleep, poll, ppoll, recvfrom).
FUTEX, OTHER_WAITS = {
    "x86_64": ("202", ("230", "35", "7", "271", "45")),
    "aarch64": ("98", ("115", "101", "73", "207")),
}.get(os.uname().machine, ("", ()))


def blocked_in_torch() -> dict[str, Any] | None:
    """Where the main thread waits within a call of torch, in the form of a collective; None when it does not.

    C++'s own collectives, those of DistributedDataParallel for one, wait for the thread that receives. Who makes a group
    waits for a word of the others in the store.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/syscall") as file:
            number = file.read().partition(" ")[0]
    except OSError:
        return None
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return None
    file_name = frame.f_code.co_filename
    thread = number == FUTEX and file_name.startswith(_TORCH)
    if not (thread or (number in OTHER_WAITS and file_name.startswith(_TORCH + "/distributed/"))):
        return None
    line, op, seen = calling_line(frame), "a call of torch", frame
    while seen is not None:
        if seen.f_code.co_filename.endswith("nn/parallel/distributed.py"):
            op = "DistributedDataParallel"
        elif seen.f_code.co_name in ("new_group", "init_device_mesh"):
            op = seen.f_code.co_name
        seen = seen.f_back  # type: ignore[assignment]
    return {"op": op, "peer": None, "line": line}


def calling_line(frame: Any = None) -> str:
    """`line 12: dist.send(...)` of the innermost frame of the learner's; of drive.py, if none of hers is there."""
    frame, beside = frame or sys._getframe(1), ""
    while frame is not None:
        whose = whose_file(frame.f_code.co_filename)
        if whose:
            line = describe_line(frame.f_code, frame.f_lineno, frame.f_globals)
            if whose == "learner":
                return line
            beside = beside or line
        frame = frame.f_back  # type: ignore[assignment]
    return beside


def whose_file(name: str) -> str:
    """ "learner", "drive" (what runs beside her code), or "" for torch, this package and Python."""
    if name.startswith(_NOT_THE_LEARNER):
        return ""
    return "drive" if os.path.basename(name) == "drive.py" else "learner"


def describe_line(code: Any, lineno: int, module_globals: dict[str, Any]) -> str:
    """`line 12 of ring_all_reduce: dist.send(chunk, right)`, from the source Python remembers."""
    import linecache

    text = linecache.getline(code.co_filename, lineno, module_globals).strip()
    where = "" if code.co_name.startswith("<") else f" of {code.co_name}"
    return f"line {lineno}{where}" + (f": {text[:120]}" if text else "")
