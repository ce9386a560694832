"""The wall without bubblewrap, where the kernel allows user namespaces: built here, then the server is run behind it.

Started as `python -m autograder.sandbox.wall ORDER` by `outer.own_wall`, with the environment that shall exist inside. A
process of its own in new namespaces puts together a root folder in memory from what `outer.seen` names, lets go of the old
root, makes everything read-only but WRITABLE, and becomes the server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from typing import Any, NoReturn

from autograder.sandbox import kernel as k
from autograder.sandbox.outer import SCRATCH, Seen, own_wall, seen
from autograder.sandbox.room import close_all_but
from autograder.sandbox.server import become_nobody_if_root

BASE = "/tmp"  # the new root is put together on top of it, which nobody else sees; what lies there stays in reach
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore", "ptmx": "pts/ptmx",
}  # fmt: skip
ROOM = (
    f"from autograder.sandbox import kernel; kernel.unshare({k.CLONE_NEWUSER})"  # what every room begins with
)
WRITABLE = ("/proc", "/dev/pts", SCRATCH)  # each of them new, and of this sandbox alone


def main() -> None:
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    order = json.loads(sys.argv[1])
    close_all_but(order["control"])
    try:
        _separate()
        child = (
            os.fork()
        )  # process 1 of the new namespaces: when it dies, the kernel ends all that is in them
        if child == 0:
            _go_inside(order)
    except OSError as error:
        sys.exit(f"no wall of namespaces can be built here ({error.strerror or error})")
    os.close(order["control"])  # else the grader would not notice that the server has ended
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def why_not() -> str:
    """Why this machine cannot build such a wall; "" when it can: one is built, which takes a tenth of a second."""
    start = own_wall([sys.executable, "-c", ROOM], 0, seen(""), None)
    tried = subprocess.run(
        start.line, stdin=subprocess.DEVNULL, capture_output=True, env=start.variables, cwd=start.folder
    )
    lines = tried.stderr.decode("utf-8", "replace").strip().splitlines()
    return "" if tried.returncode == 0 else (lines or ["it ended without a word"])[-1]


def _separate() -> None:
    """Namespaces for the process that is forked next. Root needs none for users: it steps down to nobody instead."""
    uid, gid = os.geteuid(), os.getegid()
    new = k.CLONE_NEWNS | k.CLONE_NEWPID | k.CLONE_NEWNET | k.CLONE_NEWIPC | k.CLONE_NEWUTS
    k.unshare(new | k.CLONE_NEWUSER if uid else new)
    if uid:
        k.map_ids(0, uid, gid)
    try:
        k.unshare(k.CLONE_NEWCGROUP)
    except OSError:
        pass  # a kernel without: no file system of control groups is visible inside anyway


def _go_inside(order: dict[str, Any]) -> NoReturn:
    os.setsid()
    before = os.umask(0)
    k.mount("none", "/", None, k.MS_REC | k.MS_PRIVATE)
    _put_together(order["seen"], order["scratch_bytes"])
    os.chdir(BASE)
    k.pivot_root(".", ".")  # the old root now lies on top of the new one
    k.detach(".")
    _make_read_only()
    os.umask(before)
    os.chdir(SCRATCH)
    become_nobody_if_root()
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)  # only now: who changes identity loses it
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    os.execv(order["program"][0], order["program"])


def _put_together(sight: list[Seen], scratch_bytes: int | None) -> None:
    """The new root, at BASE. What is shown of the old one is opened first, for some of it may lie below BASE."""
    opened = {path: _open(path, kind) for kind, path, _ in sight if kind in ("bind", "bind-try")}
    opened |= {f"/dev/{name}": _open(f"/dev/{name}", "bind") for name in DEVICES}
    k.mount("tmpfs", BASE, "tmpfs", k.MS_NOSUID | k.MS_NODEV, "mode=0755")
    for kind, path, text in sight:
        if kind == "folder":
            os.makedirs(BASE + path, 0o755, exist_ok=True)
        elif kind == "link":
            os.symlink(text, BASE + path)
        elif kind == "file":
            with open(BASE + path, "x", opener=lambda name, flags: os.open(name, flags, 0o444)) as file:
                file.write(text)
        else:
            _show(opened[path], path)
    _mount("proc", "/proc", k.MS_NODEV | k.MS_NOEXEC)
    _mount("tmpfs", "/dev", k.MS_NODEV | k.MS_NOEXEC, "mode=0755")
    for name in DEVICES:
        _show(opened[f"/dev/{name}"], f"/dev/{name}")
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"{BASE}/dev/{name}")
    os.mkdir(f"{BASE}/dev/shm", 0o755)  # every room mounts its own over it
    _mount("devpts", "/dev/pts", k.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    _mount("tmpfs", SCRATCH, k.MS_NODEV, "mode=1777" + (f",size={scratch_bytes}" if scratch_bytes else ""))


def _open(path: str, kind: str) -> int | None:
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        if kind == "bind-try":
            return None
        raise


def _show(source: int | None, path: str) -> None:
    """Bind what was opened to the same path of the new root, with what is mounted below it."""
    if source is None:
        return
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.makedirs(BASE + path, 0o755, exist_ok=True)
    else:
        os.close(os.open(BASE + path, os.O_CREAT | os.O_WRONLY, 0o444))
    k.mount(f"/proc/self/fd/{source}", BASE + path, None, k.MS_BIND | k.MS_REC)


def _mount(kind: str, path: str, flags: int, options: str | None = None) -> None:
    os.mkdir(BASE + path, 0o755)
    k.mount(kind, BASE + path, kind, flags | k.MS_NOSUID, options)


def _make_read_only() -> None:
    """Every mount there is, but WRITABLE. A remount has to repeat what restricts a mount, or the kernel refuses it to
    an ordinary user; how it keeps access times stays as it is when nothing is said of them."""
    mounts: dict[str, list[str]] = {}
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        for line in file:
            written, options = line.split(" ")[4:6]
            place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), written)
            mounts[place] = options.split(",")  # of several on the same place, the last is the one in reach
    for place, restricted in mounts.items():
        if place in WRITABLE:
            continue
        flags = k.MS_REMOUNT | k.MS_BIND | k.MS_RDONLY | k.MS_NOSUID
        if "nodev" in restricted or not place.startswith("/dev/"):
            flags |= k.MS_NODEV
        if "noexec" in restricted:
            flags |= k.MS_NOEXEC
        k.mount("none", place, None, flags)


if __name__ == "__main__":
    main()
