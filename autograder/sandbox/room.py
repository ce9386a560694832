"""Build one room and step into it: the learner's side of the wall inside the wall.

A room is a set of namespaces (user, processes, mounts, IPC, host name, and the rank's network), a private scratch folder and
/dev/shm, a read-only /proc that shows only its own processes, limits, and no privilege at all.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from autograder.sandbox import kernel as k
from autograder.sandbox import seccomp
from autograder.sandbox.outer import OPEN_FILES, SCRATCH, environment

FOLDERS = (SCRATCH, "/dev/shm")  # each in memory, of the room alone


class Building:
    """A room that is being built, by a process of its own, so that several are built at the same time.

    Its agent will serve `channel`.
    """

    def __init__(
        self, rank: int, network_fd: int | None, channel: socket.socket, limits: dict[str, Any]
    ) -> None:
        self._report, theirs = socket.socketpair()
        self._builder = os.fork()
        if self._builder == 0:
            try:
                close_all_but(channel.fileno(), theirs.fileno(), network_fd)
                _build(rank, network_fd, channel, limits, theirs)
            finally:
                os._exit(70)
        theirs.close()

    def finish(self) -> tuple[int, list[int]]:
        """The process id of the room's init, and descriptors of its FOLDERS. Raises OSError.

        When that process dies, the kernel kills everything that ever ran in the room.
        """
        with self._report:
            text, folders, _, _ = socket.recv_fds(self._report, 1000, len(FOLDERS))
        os.waitpid(self._builder, 0)
        if not text.isdigit():
            raise OSError(text.decode() or "the room could not be built")
        return int(text), folders


def _build(
    rank: int, network_fd: int | None, channel: socket.socket, limits: dict[str, Any], report: socket.socket
) -> NoReturn:
    try:
        if network_fd is not None:
            k.setns(network_fd, k.CLONE_NEWNET)
            os.close(network_fd)
        k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS | k.CLONE_NEWPID | k.CLONE_NEWIPC | k.CLONE_NEWUTS)
        k.map_ids(1000, 0, 0)
        k.mount("none", "/", None, k.MS_REC | k.MS_PRIVATE)
        size = limits["memory_mib"] // 4
        for path in FOLDERS:
            k.mount(
                "tmpfs", path, "tmpfs", k.MS_NOSUID | k.MS_NODEV, f"size={size}m,nr_inodes=4096,mode=1777"
            )  # fmt: skip
        folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in FOLDERS]
        k.sethostname(f"rank{rank}")
        init = os.fork()
    except OSError as error:
        report.sendall(str(error).encode())
        os._exit(71)
    if init:
        socket.send_fds(report, [str(init).encode()], folders)
        os._exit(0)
    report.close()
    for folder in folders:
        os.close(folder)
    _be_init(channel, limits)


def _be_init(channel: socket.socket, limits: dict[str, Any]) -> NoReturn:
    """Process 1 of the room: our code only. It starts the agent, reaps, and ends the room when the agent ends."""
    status = 72
    try:
        k.mount("proc", "/proc", "proc", k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC)
        with open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")  # of this namespace: the learner makes none of her own
        if os.path.exists("/proc/sys/user/max_inotify_instances"):
            with open("/proc/sys/user/max_inotify_instances", "w") as file:
                file.write("0")  # of this namespace: queues of names are memory that belongs to nobody
        k.mount("none", "/proc", None, k.MS_REMOUNT | k.MS_RDONLY | k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC)
        k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
        k.drop_all_capabilities()
        agent = os.fork()
        if agent == 0:
            be_agent(channel, limits, SCRATCH, lambda: seccomp.install() if seccomp.offered() else None)
        channel.close()
        while True:
            pid, ended = os.wait()
            if pid == agent:
                status = os.waitstatus_to_exitcode(ended) & 0xFF
                break
    finally:
        os._exit(status)


def be_agent(
    channel: socket.socket, limits: dict[str, Any], home: str, close_doors: Callable[[], None]
) -> NoReturn:
    """Become the agent: limits, the last doors closed, then serve the grader until it hangs up."""
    try:
        set_limits(limits)
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(home)
        os.environ |= environment(home)
        from autograder.sandbox.agent import serve

        close_doors()
        serve(channel)
    finally:
        os._exit(73)


def set_limits(limits: dict[str, Any]) -> None:
    """The kernel's limits on each process of the room. `memory_mib`, `cpu_s`, `file_mib`, `processes`."""
    memory = limits["memory_mib"] * 2**20
    for what, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, limits["file_mib"] * 2**20),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (value, value))


def close_all_but(*keep: int | None) -> None:
    kept = {fd for fd in keep if fd is not None}
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass
