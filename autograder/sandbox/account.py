"""How much memory rooms take, read from /proc by the server: nothing in a room is asked.

A room's memory is what its processes have made their own, together with what lies in its scratch folder and /dev/shm.
Every process of a room is a copy of the warm server, whose own memory it shares until it writes; that part is nobody's.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from aboard.ranks.memory import anonymous, forget_high_water, read_status

Tree = dict[int, list[int]]


def process_tree() -> Tree:
    """Process id → its children, for all processes that can be seen. Any process may read this of any other."""
    tree: Tree = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            tree.setdefault(parent, []).append(int(name))
    return tree


def below(pid: int, tree: Tree) -> list[int]:
    """Everything below `pid`, parents before children."""
    found = list(tree.get(pid, []))
    for child in found:
        found += tree.get(child, [])
    return found


@dataclass
class Room:
    """What the server knows of one open room.

    init: the process that everything in the room descends from. folders: descriptors of its folders in memory.
    scratch: path of its folder on disk, for a room that has none in memory.
    """

    init: int
    folders: list[int]
    scratch: str = ""
    over_limit: bool = False

    def stored(self) -> int:
        """Bytes in its folders."""
        total = _on_disk(self.scratch) if self.scratch else 0
        for folder in self.folders:
            found = os.fstatvfs(folder)
            total += (found.f_blocks - found.f_bfree) * found.f_frsize
        return total

    def close(self) -> None:
        """Give back what the room held, when nothing runs in it any more."""
        for folder in self.folders:
            os.close(folder)
        if self.scratch:
            # Not Python's: it goes down folder by folder, and somebody may have made a hundred thousand.
            subprocess.run(["rm", "-rf", "--", self.scratch], stderr=subprocess.DEVNULL, check=False)


def _on_disk(folder: str) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total


def at_most(rooms: list[Room], warm: int) -> int:
    """Bytes all `rooms` take together: a quick figure that is never much too low, and often too high.

    `warm`: anonymous memory of the server that every process of a room is a copy of, until it starts another program.
    """
    tree = process_tree()
    return sum(room.stored() + sum(_at_most(pid, warm) for pid in below(room.init, tree)) for room in rooms)


def exactly(rooms: list[Room], warm: int) -> int:
    """The same as the kernel adds it up, which takes it about a millisecond for each process."""
    tree = process_tree()
    return sum(room.stored() + sum(_exactly(pid, warm) for pid in below(room.init, tree)) for room in rooms)


def _at_most(pid: int, warm: int) -> int:
    status = read_status(pid)
    own = status["RssAnon"]
    return (own - warm if own >= warm else own // 8) + status["RssShmem"]


def _exactly(pid: int, warm: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            fields = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
        return sum(int(fields[name].split()[0]) * 1024 for name in ("Private_Dirty", "Pss_Shmem"))
    except (OSError, ValueError, KeyError):
        return _at_most(pid, warm)  # it has made itself unreadable


class Growth:
    """Growth of each room's memory from the moment this is made, at its highest; for `sample` and `result`.

    A room's figure adds up its rank, its waiting agent, every process they start, and what comes to lie in its folders.
    `held_before`: what a room had taken already when this was made, beyond what a room that did nothing has.
    """

    def __init__(self, rooms: list[Room], warm: int) -> None:
        self.rooms, self.warm = rooms, warm
        tree = process_tree()
        self._first = [below(room.init, tree) for room in rooms]
        self._later: list[list[int]] = [[] for _ in rooms]
        self._stored = [room.stored() for room in rooms]
        self._before: dict[int, dict[str, int]] = {}
        self._highest = [0] * len(rooms)
        self.held_before: list[int] = []
        for pids, stored in zip(self._first, self._stored, strict=True):
            for pid in pids:
                forget_high_water(pid)
                self._before[pid] = read_status(pid)
            # What the agent took shows in the rank too, which is its copy: the largest, not the sum.
            taken = [self._before[pid]["RssAnon"] - warm + self._before[pid]["RssShmem"] for pid in pids]
            others = sum(_exactly(pid, warm) for pid in pids[2:])
            self.held_before.append(max([0, *taken[:2]]) + stored + others)

    def sample(self) -> None:
        """Look once more; to be called every few milliseconds."""
        for index, pids in enumerate(self._first):
            self._note(index, sum(self._grown(pid, anonymous(pid)) for pid in pids))

    def sample_whole(self) -> None:
        """The same with shared memory, folders, and processes started since; a few times a second will do."""
        tree = process_tree()
        for index, room in enumerate(self.rooms):
            now = below(room.init, tree)
            self._later[index] = [pid for pid in now if pid not in self._before]
            own = shared = 0
            for pid in self._first[index]:
                status = read_status(pid)
                own += self._grown(pid, status["RssAnon"])
                shared += max(0, status["RssShmem"] - self._before[pid]["RssShmem"])
            own += sum(_exactly(pid, self.warm) for pid in self._later[index])
            self._note(index, own + max(shared, room.stored() - self._stored[index]))

    def result(self) -> list[int]:
        """Bytes, one figure for each room."""
        self.sample_whole()
        for index, pids in enumerate(self._first):
            ends = [(pid, read_status(pid)) for pid in pids]
            marked = [self._grown(pid, e["VmHWM"] - e["RssFile"] - e["RssShmem"]) for pid, e in ends]
            self._note(index, sum(marked))
        return self._highest

    def _grown(self, pid: int, anonymous_now: int) -> int:
        return max(0, anonymous_now - self._before[pid]["RssAnon"])

    def _note(self, index: int, grown: int) -> None:
        self._highest[index] = max(self._highest[index], grown)
