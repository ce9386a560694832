"""The warm process behind the wall: torch and IPython are loaded once, and each room is a fork of it.

It obeys the grader over one socket, never reads what rooms say, and reads the kernel's counters about them. Started as
`python -m autograder.sandbox.server FD RANKS` by `outer.command`.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from typing import Any

from autograder.sandbox import kernel as k


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    ranks = int(sys.argv[2])
    uid, gid = _become_nobody_if_root()
    k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS | k.CLONE_NEWNET | k.CLONE_NEWPID)  # before any thread exists
    k.map_ids(0, uid, gid)
    child = os.fork()
    if child:
        control.close()
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    k.mount("none", "/", None, k.MS_REC | k.MS_PRIVATE)
    k.mount("proc", "/proc", "proc", k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC)
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    from aboard import wire

    problem = ""
    switch = None
    try:
        from autograder.sandbox.network import Switch

        switch = Switch(ranks)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    _warm_up()
    wire.send(control, {"op": "up", "network": switch is not None, "problem": problem})
    if switch is None:
        return
    _Server(control, switch).run()


def _become_nobody_if_root() -> tuple[int, int]:
    """As root, bubblewrap makes no user namespace: step down to an id that owns nothing before anything else."""
    with open("/proc/self/uid_map") as file:
        inside, outside, count = (int(field) for field in file.read().split()[:3])
    if os.geteuid() == 0 and (inside, outside) == (0, 0) and count > 1:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        k.prctl(k.PR_SET_DUMPABLE, 1)
    return os.geteuid(), os.getegid()


def _warm_up() -> None:
    """Import what rooms will need, so that they do not have to. No thread may start here: rooms are forked."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    from aboard import ranks  # noqa: F401
    from autograder.sandbox import agent  # noqa: F401
    from autograder.sandbox.shell import warm_shell

    warm_shell()
    torch.nn.functional.relu(torch.ones(2, 2) @ torch.ones(2, 2))
    # The first optimizer of a process imports hundreds of modules; here once, not in every rank.
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.zeros(1)
        kind([weight], lr=0.1).step()
    assert dist.is_available()
    gc.collect()
    gc.freeze()  # pages of long-lived objects stay shared with every room


class _Server:
    def __init__(self, control: socket.socket, switch: Any) -> None:
        from aboard.ranks.memory import PeakWatch

        self.control, self.switch = control, switch
        self.rooms: dict[int, int] = {}  # rank → process id of the room's init
        self.watch: PeakWatch | None = None
        self.watched: list[list[int]] = []
        self.before: tuple[list[int], list[int]] = ([], [])

    def run(self) -> None:
        from aboard import wire

        while True:
            try:
                order = wire.receive(self.control)
            except (EOFError, OSError):
                break
            answer = getattr(self, "_" + order.pop("op"))(**order)
            wire.send(self.control, answer)
        for rank in list(self.rooms):
            self._close(rank)

    def _open(self, rank: int, limits: dict[str, Any]) -> dict[str, Any]:
        from autograder.sandbox.room import open_room

        _, fds, _, _ = socket.recv_fds(self.control, 1, 1)
        channel = socket.socket(fileno=fds[0])
        try:
            self.rooms[rank] = open_room(rank, self.switch.rooms[rank], channel, limits)
            return {"problem": ""}
        except OSError as error:
            return {"problem": str(error)}
        finally:
            channel.close()

    def _close(self, rank: int) -> dict[str, Any]:
        pid = self.rooms.pop(rank, None)
        if pid is None:
            return {"cpu_s": 0.0, "peak_rss_bytes": 0, "status": 0}
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        _, status, usage = os.wait4(pid, 0)
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_rss_bytes": usage.ru_maxrss * 1024,
            "status": os.waitstatus_to_exitcode(status),
        }

    def _interrupt(self, rank: int) -> dict[str, Any]:
        for pid in _descendants(self.rooms.get(rank, 0))[:1]:
            os.kill(pid, signal.SIGINT)
        return {}

    def _watch(self, ranks: int) -> dict[str, Any]:
        """Begin to count: bytes on each rank's wire, memory of each rank's processes (not of its waiting agent)."""
        from aboard.ranks.memory import PeakWatch

        self.watched = [_descendants(self.rooms.get(rank, 0))[1:] for rank in range(ranks)]
        self.before = self.switch.counters(ranks)
        self.watch = PeakWatch([pid for pids in self.watched for pid in pids])
        return {}

    def _unwatch(self, ranks: int) -> dict[str, Any]:
        assert self.watch is not None
        peaks = iter(self.watch.stop())
        self.watch = None
        sent, received = self.switch.counters(ranks)
        return {
            "peak_bytes": [sum(next(peaks) for _ in pids) for pids in self.watched],
            "sent_bytes": [after - before for after, before in zip(sent, self.before[0], strict=True)],
            "received_bytes": [
                after - before for after, before in zip(received, self.before[1], strict=True)
            ],
        }


def _descendants(pid: int) -> list[int]:
    """Process ids of everything below `pid`, parents before children."""
    found = []
    try:
        for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
            found += [int(child), *_descendants(int(child))]
    except (OSError, ValueError):
        pass
    return found


if __name__ == "__main__":
    main()
