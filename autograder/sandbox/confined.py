"""A room without namespaces, for machines that allow none: Landlock, limits, and no sockets at all.

What it promises: no file of anybody's but its own scratch folder, no network, no signal to others, bounds on memory, disk
and time, and nothing left running. What it cannot have is a network of its own, so it takes one process only: exercises
on several ranks are not graded here, rather than graded with less.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any, NoReturn

from autograder.sandbox import kernel as k
from autograder.sandbox import landlock, seccomp
from autograder.sandbox.ending import END_S
from autograder.sandbox.outer import python_folders
from autograder.sandbox.room import be_agent, close_all_but

SYSTEM = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts",
    "/dev/zero", "/dev/random", "/dev/urandom",
]  # fmt: skip


def why_not() -> str:
    """Why this machine cannot build such a room; "" when it can."""
    if landlock.abi() < landlock.NEEDED_ABI:
        return f"Landlock here is version {landlock.abi()}, and {landlock.NEEDED_ABI} is needed (Linux 6.12)"
    if not seccomp.offered():
        return "this kernel offers no seccomp filter"
    if os.geteuid() == 0:
        return "root is not held back by limits alone; grade as an ordinary user"
    return ""


def open_confined_room(channel: socket.socket, limits: dict[str, Any], scratch: str) -> int:
    """Fork a room whose agent serves `channel`; the process id of its keeper, which everything in it descends from."""
    os.makedirs(scratch, mode=0o700)
    pid = os.fork()
    if pid == 0:
        try:
            close_all_but(channel.fileno())
            _keep(channel, limits, scratch)
        finally:
            os._exit(70)
    return pid


def _keep(channel: socket.socket, limits: dict[str, Any], scratch: str) -> NoReturn:
    """The room's keeper: our code only. Orphans come to it, and when the agent or the server ends, so does all else."""
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    landlock.keep_signals_in()
    _see_that_signals_stay_in()

    def end(*_: object) -> NoReturn:
        _end_all_of_mine()
        os._exit(70)

    signal.signal(signal.SIGTERM, end)
    # No namespace ends with the server: somebody must be left to do it
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGTERM)
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    agent = os.fork()
    if agent == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        limits = limits | {"processes": limits["processes"] + _processes_of_mine()}
        be_agent(channel, limits, scratch, lambda: _confine(scratch))
    channel.close()
    while True:
        pid, ended = os.wait()
        if pid == agent:
            _end_all_of_mine()
            os._exit(os.waitstatus_to_exitcode(ended) & 0xFF)


def _see_that_signals_stay_in() -> None:
    """OSError unless the server that this process was forked from is out of its reach."""
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise OSError("signals are not kept in")


def _end_all_of_mine() -> None:
    """Kill and bury everything that descends from this process, which orphans come to.

    However fast it forks: the kernel kills all that this process may reach before any of them can fork again, and what it
    may reach is what has come of it since its signals were kept in.
    """
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        try:
            os.kill(-1, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def _confine(scratch: str) -> None:
    landlock.restrict([*SYSTEM, *python_folders()], [scratch, "/dev/null"])
    seccomp.install(namespaces=False)


def _processes_of_mine() -> int:
    """Threads this user runs now: the kernel's limit on their number counts them all, not the room's alone."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == os.geteuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                pass
    return count
