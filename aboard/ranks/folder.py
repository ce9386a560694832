"""A folder that a rank is given for one call: files in it, and what the kernel tells of them meanwhile.

Whoever makes the folder hears from inotify(7) how often each file was opened and when something in it changed. The rank
lives in another process: it opens these files or does not have what they hold, and nothing that it does takes back what
the kernel has counted.
"""

from __future__ import annotations

import ctypes
import os
import select
import stat
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch

from aboard.ranks.call import Kept

# Of the kernel's inotify.h
CLOSE_WRITE, CLOSE_NOWRITE, OPEN, ATTRIB = 0x8, 0x10, 0x20, 0x4
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF, OVERFLOW, IS_FOLDER = 0x400, 0x800, 0x4000, 0x40000000
# Equal events that follow each other are told as one. A file that is opened twice is told twice all the same: each time
# by its folder and by itself, and what was made meanwhile is told as closed in between.
OF_A_FOLDER = OPEN | CLOSE_WRITE | CLOSE_NOWRITE | CREATE | DELETE | MOVED_FROM | MOVED_TO
OF_A_FILE = OPEN | ATTRIB | MOVE_SELF | DELETE_SELF
CHANGES = OPEN | CLOSE_WRITE | CREATE | DELETE | MOVED_FROM | MOVED_TO

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LOOK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_BYTES, MOST_FILES, DEEPEST = 64 * 2**20, 4096, 8  # of what is taken back from a rank
OFTEN = 1_000_000  # opens of each file, when there were too many for the kernel to tell, or of too many files


class Folder:
    """`name` in the folder that is open as `base`, with `files`: path → bytes, or path/ → b"" for an empty folder.

    Below `base` somebody else may make, move and link what she likes while this works: no path is followed twice.
    after, act: `act` is called when something in the folder has changed `after` times (0: never).
    `fd` is readable when there is something to `take`; -1 where the kernel tells nothing (macOS).
    Raises OSError when there is no place for the files.
    """

    def __init__(
        self, base: int, name: str, files: dict[str, bytes], after: int = 0, act: Callable[[], object] = int
    ) -> None:
        self.base, self.name, self.changes = os.dup(base), name, 0
        self._after, self._act, self.acted = after, act, False
        self._folders: dict[str, int] = {}  # path, "" or with / at its end → descriptor
        self._watches: dict[int, str] = {}
        self._by_folder: Counter[str] = Counter()
        self._by_file: Counter[str] = Counter()
        self._overflown = False
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if _told() else -1
        try:
            if _told() and self.fd < 0:
                raise OSError(ctypes.get_errno(), "inotify: " + os.strerror(ctypes.get_errno()))
            os.mkdir(name, 0o700, dir_fd=base)
            self._folders[""] = os.open(name, LOOK, dir_fd=base)
            for path, content in files.items():
                self._put(path, content)
            for path, folder in self._folders.items():
                self._watch(folder, path, OF_A_FOLDER)
        except OSError:
            self.close()
            raise

    def _put(self, path: str, content: bytes) -> None:
        where, _, name = path.rpartition("/")
        parent = self._folder(where + "/" if where else "")
        if not name:
            return
        file = os.open(name, NEW, 0o600, dir_fd=parent)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
            self._watch(file, path, OF_A_FILE)
        finally:
            os.close(file)

    def _folder(self, path: str) -> int:
        if path not in self._folders:
            where, _, name = path[:-1].rpartition("/")
            parent = self._folder(where + "/" if where else "")
            os.mkdir(name, 0o700, dir_fd=parent)
            self._folders[path] = os.open(name, LOOK, dir_fd=parent)
        return self._folders[path]

    def _watch(self, descriptor: int, path: str, events: int) -> None:
        if self.fd < 0:
            return
        number = self._libc.inotify_add_watch(self.fd, b"/proc/self/fd/%d" % descriptor, events)
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify: " + os.strerror(ctypes.get_errno()))
        self._watches[number] = path

    def take(self) -> None:
        """Take note of what the kernel has told since the last time."""
        while self.fd >= 0:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            start = 0
            while start < len(data):
                number, mask, _, length = struct.unpack_from("iIII", data, start)
                name = os.fsdecode(data[start + 16 : start + 16 + length].rstrip(b"\0"))
                start += 16 + length
                self._note(number, mask, name)

    def _note(self, number: int, mask: int, name: str) -> None:
        self._overflown |= bool(mask & OVERFLOW)
        path = self._watches.get(number)
        if path is None or mask & IS_FOLDER:
            return
        if path and not path.endswith("/"):
            # By another name, in another folder, a file's opens are told by itself alone, and two as one: the name counts
            # as one of them. A file that was removed, which is told as a change and as its end, was not opened for that.
            self._by_file[path] += -1 if mask & DELETE_SELF else bool(mask & (OPEN | ATTRIB | MOVE_SELF))
            return
        if path + name in self._by_folder or len(self._by_folder) < MOST_FILES:
            self._by_folder[path + name] += bool(mask & OPEN)
        else:
            self._overflown = True  # names made up one after the other, to fill this process
        self.changes += bool(mask & CHANGES)
        if self._after and self.changes >= self._after and not self.acted:
            self.acted = True
            self._act()

    def opened(self) -> dict[str, int] | None:
        """Path → how often it was opened, of the files put there and of those made since in the folders put there."""
        if self.fd < 0:
            return None
        self.take()
        paths = self._by_folder.keys() | self._by_file.keys()
        counted = {p: max(self._by_folder[p], self._by_file[p]) for p in paths}
        return dict.fromkeys(paths, OFTEN) if self._overflown else {p: n for p, n in counted.items() if n > 0}

    def take_back(self) -> Kept:
        """What is in the folder now, and what was counted; then it is removed, as far as this can be done in a moment."""
        opened = self.opened()
        found = _Found()
        try:
            found.look(self.base, self.name, "")
        finally:
            found.remove()
            self.close()
        return Kept(found.files, opened, self.acted, found.whole)

    def close(self) -> None:
        for descriptor in [*self._folders.values(), self.fd, self.base]:
            if descriptor >= 0:
                os.close(descriptor)
        self._folders.clear()
        self.fd = self.base = -1


def bundle(files: dict[str, bytes]) -> list[Any]:
    """`files` as a value that crosses a socket."""
    contents = torch.frombuffer(bytearray(b"".join(files.values()) or b"\0"), dtype=torch.uint8)
    return [list(files), [len(content) for content in files.values()], contents]


def unbundle(value: list[Any]) -> dict[str, bytes]:
    names, sizes, contents = value
    data, ends = memoryview(contents.numpy()), list(accumulate(sizes))
    return {name: bytes(data[end - size : end]) for name, size, end in zip(names, sizes, ends, strict=True)}


@dataclass
class _Found:
    """All that is in a folder, within limits: nobody may fill this process, or keep it busy, with what she leaves there."""

    files: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    whole: bool = True
    seen: int = 0
    removable: list[tuple[int, str, bool]] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)

    def look(self, parent: int, name: str, path: str) -> None:
        try:
            folder = os.open(name, LOOK, dir_fd=parent)
        except OSError:
            return  # it is no folder any more
        self.opened.append(folder)
        self.removable.append((parent, name, True))
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(MOST_FILES), strict=False)]
        for one in sorted(names):
            self.seen += 1
            if self.seen > MOST_FILES:
                self.whole = False
                return
            kind = _mode(one, folder)
            if stat.S_ISDIR(kind) and path.count("/") < DEEPEST:
                self.look(folder, one, f"{path}{one}/")
                continue
            self.removable.append((folder, one, False))
            if stat.S_ISREG(kind):
                self._read(folder, one, path + one)

    def _read(self, folder: int, name: str, path: str) -> None:
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            return
        with open(file, "rb") as opened:
            content = opened.read(MOST_BYTES - self.size)
            self.whole &= not opened.read(1)
        self.size += len(content)
        self.files[path] = content

    def remove(self) -> None:
        for parent, name, is_folder in reversed(self.removable):
            try:
                (os.rmdir if is_folder else os.unlink)(name, dir_fd=parent)
            except OSError:
                pass
        for folder in self.opened:
            os.close(folder)


def _mode(name: str, folder: int) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return 0


def _told() -> bool:
    """Whether this kernel has inotify."""
    return hasattr(ctypes.CDLL(None), "inotify_init1")


class Attendant:
    """Takes what the kernel tells of `folders`, in a thread, until `stop`."""

    def __init__(self, folders: list[Folder]) -> None:
        self._folders = [folder for folder in folders if folder.fd >= 0]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._attend, daemon=True)
        self._thread.start()

    def _attend(self) -> None:
        while not self._over.is_set():
            ready, _, _ = select.select([folder.fd for folder in self._folders], [], [], 0.02)
            for folder in self._folders:
                if folder.fd in ready:
                    folder.take()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
