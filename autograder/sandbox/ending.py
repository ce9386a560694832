"""How rooms end: everything in them is killed, whatever it does meanwhile."""

from __future__ import annotations

import os
import signal
import time

from autograder.sandbox.account import Room, below, children, process_tree

END_S = 5.0


def end(room: Room) -> None:
    """Kill all that runs in `room`."""
    if room.scratch:
        _end_confined(room.init)
        return
    try:
        os.kill(room.init, signal.SIGKILL)  # process 1 of its namespace: the kernel kills the rest
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


def _end_confined(keeper: int) -> None:
    """Kill everything in the room, its keeper last. Whatever forks meanwhile is found in the next round."""
    deadline = time.monotonic() + END_S
    while (inside := below(keeper, process_tree())) and time.monotonic() < deadline:
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in inside:
                try:
                    os.kill(pid, signal_number)
                except ProcessLookupError:
                    pass
    try:
        os.kill(keeper, signal.SIGKILL)
    except ProcessLookupError:
        pass


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
