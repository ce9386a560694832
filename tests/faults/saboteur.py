"""Finds the parts of a running grader and kills them. It looks at nothing but what that grader has started."""

from __future__ import annotations

import os
import signal
from pathlib import Path

SERVICES = ("crew", "worker", "wall", "server", "warden")
ROOMS = ("room", "agent", "rank")


def children(pid: int) -> list[int]:
    found = []
    try:
        for path in list(Path(f"/proc/{pid}/task").glob("*/children")):
            found += [int(child) for child in path.read_text().split()]
    except (OSError, ValueError):
        pass  # it has just ended
    return found


def parts(grader: int) -> dict[str, list[int]]:
    """Process ids by what they are: the grader's crew, and what it is forked for and has started.

    grader > crew > worker, and
             crew > wall (bubblewrap, or our own) > server > warden > room (its process 1) > agent > rank (and what a rank starts)
    """
    found: dict[str, list[int]] = {name: [] for name in (*SERVICES, *ROOMS)}
    found["crew"] = children(grader)
    for crew in found["crew"]:
        for child in children(crew):
            if b"autograder.worker" in _words(child):
                found["worker"].append(child)
            else:
                _behind(child, 0, found)
    return found


def _behind(pid: int, depth: int, found: dict[str, list[int]]) -> None:
    names = ("wall", "server", "warden", "room", "agent", "rank")
    words = _words(pid)
    if not words:
        return
    # Of either there may be two, one inside the other.
    wall = words[0].endswith(b"bwrap") or b"autograder.sandbox.wall" in words
    depth = 0 if wall else max(depth, 1)
    found[names[min(depth, len(names) - 1)]].append(pid)
    for child in children(pid):
        _behind(child, depth + 1, found)


def _words(pid: int) -> list[bytes]:
    """Its command line; [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


# Process id, and when it was started: ids come back, on a busy machine within a minute
Identity = tuple[int, str]


def identity(pid: int) -> Identity | None:
    """None when it has ended, or is a corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (pid, fields[19])


def still_running(started: set[Identity]) -> set[Identity]:
    return {one for one in started if identity(one[0]) == one}


def described(started: set[Identity]) -> list[str]:
    """Of each its id, its parent's, its state and its command line."""
    lines = []
    for pid, _ in sorted(started):
        try:
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            lines.append(f"{pid} below {parent}, {state}: {' '.join(words[-4:])}")
        except OSError:
            continue
    return lines
