"""How much memory rooms take, read from /proc by the server: nothing in a room is asked.

A room's memory is what its processes have made their own, together with what lies in its scratch folder and /dev/shm and what
waits in its sockets.
Every process of a room is a copy of the warm server, whose own memory it shares until it writes; that part is nobody's.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass

from aboard.ranks.memory import anonymous, forget_high_water, read_status
from autograder.sandbox.sockets import PIPE, SOCKET_BUFFER, Sockets

Tree = dict[int, list[int]]
MANY_DESCRIPTORS = 64  # more than that many new ones in one call are taken for pipes that are used as memory
FIRST_SLOTS = 64  # a process begins with so many in its table of descriptors, and the table never shrinks
SETTLE_S = 0.3


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
    scratch: path of its folder on disk, for a room that has none in memory. sockets: those of its network; None when it has none
    of its own, or the kernel does not tell. papermill, kernel_bytes: in a room with a Jupyter kernel, the agent's process, and
    what lay beside it when the kernel had loaded its libraries and nothing of the learner had run.
    """

    init: int
    folders: list[int]
    scratch: str = ""
    sockets: Sockets | None = None
    over_limit: bool = False
    papermill: int | None = None
    kernel_bytes: int = 0

    def stored(self) -> int:
        """Bytes in its folders, and waiting in its sockets."""
        total = _on_disk(self.scratch) if self.scratch else 0
        total += self.sockets.waiting() if self.sockets else 0
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
    """Bytes all `rooms` take together: a quick figure, often too high. Too low it is only for processes that have given back
    what they had in common with the warm server.

    `warm`: anonymous memory of the server that every process of a room is a copy of, until it starts another program.
    """
    tree = process_tree()
    return sum(room.stored() + sum(_at_most(pid, warm) for pid in below(room.init, tree)) for room in rooms)


def exactly(rooms: list[Room], warm: int) -> list[int]:
    """The same for each room as the kernel adds it up, which takes it about a millisecond for each process."""
    tree, share = process_tree(), _shared(_rollup(os.getpid()))
    return [
        room.stored() + sum(_exactly(pid, room, warm, share) for pid in below(room.init, tree))
        for room in rooms
    ]


def _at_most(pid: int, warm: int) -> int:
    found = dict.fromkeys((b"RssAnon", b"RssShmem", b"VmPTE"), 0)
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                key, _, rest = line.partition(b":")
                if key in found:
                    found[key] = int(rest.split()[0]) * 1024
    except (OSError, ValueError):
        return 0  # it has ended
    own = found[b"RssAnon"]
    if own >= warm or _is_copy(pid):
        own = max(0, own - warm)
    return own + found[b"RssShmem"] + found[b"VmPTE"]


def _exactly(pid: int, room: Room, warm: int, share: int) -> int:
    """What is this process's alone, and its part of what it has in common with others than the warm server.

    share: what each copy of the server is counted for, of the memory that all of them have in common.
    """
    fields = _rollup(pid)
    if not fields:
        return _at_most(pid, warm)  # it has made itself unreadable
    common = _shared(fields) - (share if _is_copy(pid) else 0)
    own = fields["Private_Dirty"] + max(0, common) + fields["Pss_Shmem"]
    return own + _page_tables(pid) + _buffers(_descriptors(pid), room)


def _rollup(pid: int) -> dict[str, int]:
    """The kernel's account of a process's memory in bytes; empty when it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            lines = [line.split() for line in file.read().splitlines()[1:]]
        found = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}
        return {name: found[name] for name in ("Private_Dirty", "Pss_Anon", "Pss_Shmem")}
    except (OSError, ValueError, KeyError, IndexError):
        return {}


def _shared(fields: dict[str, int]) -> int:
    """Its part of anonymous memory that it has in common with others: a page of k processes counts 1/k for each."""
    return max(0, fields.get("Pss_Anon", 0) - fields.get("Private_Dirty", 0))


def _page_tables(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"VmPTE:"))
    except (OSError, StopIteration, ValueError):
        return 0


def _is_copy(pid: int) -> bool:
    """Whether it is a copy of this process, and not another program: that would have been laid out anew."""
    try:
        with open(f"/proc/{pid}/auxv", "rb") as theirs, open("/proc/self/auxv", "rb") as ours:
            return theirs.read() == ours.read()
    except OSError:
        return False


def note_kernel(room: Room, warm: int) -> None:
    """In this room papermill has started a kernel, and nothing of a learner has run yet."""
    family = below(room.init, process_tree())
    room.papermill = family[0]
    room.kernel_bytes = _beside(family[0], room, family, warm)


def _beside(agent: int, room: Room, family: list[int], warm: int) -> int:
    """Bytes in the room's folders and sockets and in the processes of `family` but `agent`."""
    share = _shared(_rollup(os.getpid()))
    return room.stored() + sum(_exactly(pid, room, warm, share) for pid in family if pid != agent)


class Growth:
    """Growth of each room's memory from before its rank is forked until the rank has handed over what it returns.

    A room's figure adds up its rank, its waiting agent, every process they start, what comes to lie in its folders, what waits
    in its sockets, and what pipes may hold that were opened by the dozen. Each stretch between two calls of `next_stretch` has a highest
    value of its own, above what the room had when the stretch began.
    held_before: what a room had taken when the first one began, beyond what a room that did nothing has.
    strangers: processes of a room beside those that belong there and its rank, at their most.
    """

    def __init__(self, rooms: list[Room], warm: int) -> None:
        self.rooms, self.warm = rooms, warm
        self._at_rest = [2 if room.papermill else 1 for room in rooms]
        self.strangers = [0] * len(rooms)
        self.held_before: list[int] = []
        self._stretch: list[list[int]] = []
        self._known: dict[int, int] = {}  # process → anonymous memory that is not counted as growth
        self._family = self._when_settled()
        for room, pids in zip(rooms, self._family, strict=True):
            self._known |= {pid: anonymous(pid) for pid in pids}
            if room.papermill:
                # Ranks are the kernel's children; whether papermill still lives is the learner's business.
                held = _beside(room.papermill, room, pids, warm) - room.kernel_bytes
            else:
                agent = pids[0] if pids else 0
                held = _beside(agent, room, pids, warm) + max(0, self._known.get(agent, 0) - warm)
            self.held_before.append(max(0, held))
        self._start()

    def _when_settled(self) -> list[list[int]]:
        """Each room's processes, once the ranks of the call before have had a moment to be gone."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            tree = process_tree()
            family = [[pid for pid in below(room.init, tree) if anonymous(pid)] for room in self.rooms]
            settled = all(len(pids) <= most for pids, most in zip(family, self._at_rest, strict=True))
            if settled or time.monotonic() > deadline:
                return family
            time.sleep(0.001)

    def _start(self) -> None:
        self._stored = [room.stored() for room in self.rooms]
        self._doors = [sum(map(_descriptors, pids)) for pids in self._family]
        self._slots = {pid: _slots(pid) for pids in self._family for pid in pids}
        self._buried = [self._faults_of_the_dead(index) for index in range(len(self.rooms))]
        self._levels = [self._level(index) for index in range(len(self.rooms))]
        self._stretch.append([0] * len(self.rooms))
        for pid in self._known:
            forget_high_water(pid)

    def _meet(self) -> None:
        """Find processes that came since. A fork begins with its parent's memory, which is not its own growth."""
        tree = process_tree()
        for index, room in enumerate(self.rooms):
            self._family[index] = now = below(room.init, tree)
            parents = {child: pid for pid in [room.init, *now] for child in tree.get(pid, [])}
            for pid in now:
                if pid not in self._known:
                    self._known[pid] = self._known.get(parents[pid], 0)
            alive = sum(1 for pid in now if anonymous(pid))
            self.strangers[index] = max(self.strangers[index], alive - self._at_rest[index] - 1)

    def _level(self, index: int) -> int:
        return sum(anonymous(pid) - self._known[pid] for pid in self._family[index])

    def sample(self) -> None:
        """Look once more; to be called every few milliseconds."""
        if any(child not in self._known for pids in self._family for pid in pids for child in children(pid)):
            self._meet()
        for index, room in enumerate(self.rooms):
            stored = room.stored() - self._stored[index]
            doors = sum(map(_descriptors, self._family[index])) - self._doors[index]
            self._note(index, self._level(index) - self._levels[index] + stored + _buffers(doors, room))

    def sample_whole(self) -> None:
        """The same with every process started since; a few times a second will do."""
        self._meet()
        self.sample()

    def next_stretch(self) -> None:
        """End this stretch and begin another one."""
        self._finish()
        self._start()

    def result(self) -> list[list[int]]:
        """The highest of each room in each stretch, in bytes."""
        self._finish()
        return self._stretch

    def _finish(self) -> None:
        self.sample_whole()
        for index, pids in enumerate(self._family):
            marked = 0
            for pid in pids:
                end = read_status(pid)
                marked += max(0, end["VmHWM"] - end["RssFile"] - end["RssShmem"] - self._known[pid])
                # Descriptors that came and went between two looks: a table that has grown is taken for half full.
                slots = _slots(pid)
                if slots > self._slots.get(pid, FIRST_SLOTS):
                    self._note(index, _buffers(slots // 2, self.rooms[index]))
            self._note(index, marked - self._levels[index])
            # A process that came and went between two looks shows in the account of whoever buried it.
            if len(self._stretch) > 1 and self._faults_of_the_dead(index) > self._buried[index]:
                self.strangers[index] = max(self.strangers[index], 1)

    def _faults_of_the_dead(self, index: int) -> int:
        """Page faults of processes that have ended, in the accounts of init and of all but the agent, who buries ranks."""
        return sum(_faults_ofchildren(pid) for pid in [self.rooms[index].init, *self._family[index][1:]])

    def _note(self, index: int, grown: int) -> None:
        highest = self._stretch[-1]
        highest[index] = max(highest[index], grown)


def children(pid: int) -> list[int]:
    """Processes that the main thread of `pid` has started."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(field) for field in file.read().split()]
    except (OSError, ValueError):
        return []


def _buffers(descriptors: int, room: Room) -> int:
    """Bytes that so many new descriptors are taken to hold: of pipes, and of sockets where those are not counted."""
    return max(0, descriptors - MANY_DESCRIPTORS) * (PIPE if room.sockets else SOCKET_BUFFER)


def _descriptors(pid: int) -> int:
    try:
        # Since Linux 6.2 the folder's size is their number; before, it is 0.
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def _slots(pid: int) -> int:
    """Length of its table of descriptors; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"FDSize:"))
    except (OSError, StopIteration):
        return 0


def _faults_ofchildren(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[8])  # cminflt, see proc_pid_stat(5)
    except (OSError, ValueError, IndexError):
        return 0
