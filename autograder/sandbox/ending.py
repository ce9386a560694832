"""How rooms end: everything in them is killed, whatever it does meanwhile."""

from __future__ import annotations

import os
import signal
import time

from autograder.sandbox.account import Room, children, process_tree

END_S = 5.0


def end(room: Room) -> None:
    """Kill all that runs in `room`: the kernel does, or, where the room has no namespace, its keeper."""
    try:
        os.kill(room.init, signal.SIGTERM if room.scratch else signal.SIGKILL)
    except ProcessLookupError:
        pass


def end_at_once(room: Room) -> None:
    """Its agent and ranks first, if they are still one group: through process 1 it takes the kernel some moments more."""
    for agent in children(room.init):
        try:
            os.killpg(agent, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    end(room)


def end_orphans(known: set[int]) -> None:
    """Kill and bury what outlived its keeper: all that is now this process's child and not one of `known`."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        orphans = [pid for pid in process_tree().get(os.getpid(), []) if pid not in known]
        if not orphans:
            return
        for pid in orphans:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError):
                pass
        time.sleep(0.001)
