"""What a sandbox shows of this machine, and the two walls that show it: bubblewrap's, and our own (`wall.py`).

Visible inside: /usr and what belongs to it, the Python that runs us, this package's two folders, an empty scratch folder, a
minimal /dev and /proc. Not visible: home folders, the course's sources, submissions, results, the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import aboard
import autograder
from autograder.errors import SandboxError

NETWORK = "10.77.0"  # rank r is 10.77.0.(r+1)
MOST_RANKS = 16
OPEN_FILES = 512  # a process of a room may have at a time
SCRATCH = "/scratch"  # the only writable folder; /tmp is another name for it
WALLS = ("bubblewrap", "namespaces")
NOT_INSTALLED = "it is not installed"

# One thing that is seen: its kind, its path, and the text of a file or the target of a link.
#   folder  an empty one        bind  this machine's own, read-only        bind-try  the same, if there is one
#   file    with this text      link  to this target
Seen = tuple[str, str, str]


@dataclass(frozen=True)
class Start:
    """How a server behind a wall is started: arguments of `subprocess.Popen`. `fds`: the first is the server's own."""

    line: list[str]
    fds: list[int]
    variables: dict[str, str] | None = None
    folder: str | None = None


def command(wall: str, control_fd: int) -> Start:
    """How to start the server behind `wall`, one of WALLS. Raises SandboxError when something is not installed."""
    names = "".join(f"{NETWORK}.{r + 1} rank{r}\n" for r in range(MOST_RANKS))
    return _behind(wall, ["autograder.sandbox.server", str(control_fd)], control_fd, seen(names))


def cluster_command(wall: str, control_fd: int, scratch_mib: int) -> Start:
    """The same for the server of a miniature supercomputer, whose jobs may write `scratch_mib` MiB in all."""
    more = [
        ("folder", "/run", ""), ("folder", "/etc/slurm", ""),  # for the cluster to mount its own over
        ("bind-try", "/etc/alternatives", ""),  # Debian's names of Slurm's programs
    ]  # fmt: skip
    server = ["autograder.sandbox.cluster_server", str(control_fd)]
    return _behind(wall, server, control_fd, [*seen(""), *more], scratch_mib * 2**20)


def seen(names: str) -> list[Seen]:
    """All that is visible but /proc, /dev and SCRATCH. `names`: lines for /etc/hosts."""
    found: list[Seen] = [("bind", "/usr", "")]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            found.append(("link", str(path), os.readlink(path)))
        elif path.is_dir():
            found.append(("bind", str(path), ""))
    found.append(("folder", "/etc", ""))
    for given in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/fonts"):
        found.append(("bind-try", given, ""))
    found += [
        ("file", "/etc/hosts", "127.0.0.1 localhost\n" + names),
        ("file", "/etc/nsswitch.conf", "hosts: files\npasswd: files\ngroup: files\n"),
        ("file", "/etc/passwd", "root:x:0:0::/tmp:/bin/false\nlearner:x:1000:1000::/tmp:/bin/false\n"),
        ("file", "/etc/group", "root:x:0:\nlearner:x:1000:\n"),
    ]
    folders = list(dict.fromkeys(python_folders()))
    # Folders on the way are made and must let anybody through: as root, the server steps down.
    parents = dict.fromkeys(str(p) for f in folders for p in reversed(Path(f).parents) if str(p) != "/")
    found += [("folder", parent, "") for parent in parents]
    found += [("bind", folder, "") for folder in folders]
    if not any(folder.startswith("/tmp/") for folder in folders):
        found.append(("link", "/tmp", SCRATCH))
    return found


def _behind(
    wall: str, server: list[str], control_fd: int, sight: list[Seen], scratch_bytes: int | None = None
) -> Start:
    if shutil.which("ip", path=environment(SCRATCH)["PATH"]) is None:
        raise SandboxError("the program `ip` is missing; install the package iproute2")
    program = [sys.executable, "-m", *server]
    if wall == "namespaces":
        return own_wall(program, control_fd, sight, scratch_bytes)
    return _bubblewrap(program, control_fd, sight, scratch_bytes)


def own_wall(program: list[str], control_fd: int, sight: list[Seen], scratch_bytes: int | None) -> Start:
    """How to start `program` behind the wall that `wall.py` builds."""
    order = {"program": program, "control": control_fd, "seen": sight, "scratch_bytes": scratch_bytes}
    line = [sys.executable, "-P", "-m", "autograder.sandbox.wall", json.dumps(order)]
    return Start(line, [control_fd], environment(SCRATCH) | mark(), "/")


def _bubblewrap(program: list[str], control_fd: int, sight: list[Seen], scratch_bytes: int | None) -> Start:
    if (bwrap := bubblewrap()) is None:
        raise SandboxError(NOT_INSTALLED)
    fds = [control_fd]
    line = [bwrap, "--die-with-parent", "--new-session", "--clearenv"]
    line += ["--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() != 0:
        line += ["--unshare-user", "--unshare-pid", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    for kind, path, text in sight:
        if kind == "folder":
            line += ["--perms", "0755", "--dir", path]
        elif kind == "link":
            line += ["--symlink", text, path]
        elif kind == "file":
            fds.append(_holding(text))
            line += ["--perms", "0444", "--file", str(fds[-1]), path]
        else:
            line += [f"--ro-{kind}", path, path]
    # Bubblewrap as root covers parts of /proc, and the kernel then refuses a fresh one inside: take it as it is; the
    # server mounts its own over it before any room exists.
    line += ["--bind", "/proc", "/proc"] if os.geteuid() == 0 else ["--proc", "/proc"]
    line += ["--dev", "/dev"]
    line += ["--size", str(scratch_bytes)] if scratch_bytes else []
    line += ["--perms", "1777", "--tmpfs", SCRATCH, "--chdir", SCRATCH]
    # The folders that bubblewrap made belong to whoever grades, which is who runs the rooms: one room could leave something
    # there for the next. The folder above is a file system of its own, and stays as it is.
    line += ["--remount-ro", "/dev", "--remount-ro", "/"]
    for name, value in (environment(SCRATCH) | mark()).items():
        line += ["--setenv", name, value]
    return Start([*line, "--", *program], fds)


def _holding(text: str) -> int:
    """A file descriptor from which `text` is read."""
    with tempfile.TemporaryFile() as data:
        data.write(text.encode())
        data.flush()
        data.seek(0)
        return os.dup(data.fileno())


def environment(scratch: str) -> dict[str, str]:
    """All variables that exist inside. `scratch`: home and temporary folder."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(aboard.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", "MPLCONFIGDIR": f"{scratch}/.mpl", "TERM": "dumb",
        "MALLOC_ARENA_MAX": "2", "IPYTHONDIR": f"{scratch}/.ipython", "PYTHONHASHSEED": "0",
    }  # fmt: skip


def mark() -> dict[str, str]:
    """The variable by which a process of a room, wherever it got to, is known, and the grader that made the room."""
    return {"ALL_ABOARD_ROOM": str(os.getpid())}


def bubblewrap() -> str | None:
    """Path of bubblewrap's program, or None."""
    return shutil.which("bwrap")


def python_folders() -> list[str]:
    """Every folder Python needs: its own, the virtual environment's, and our two packages (not the course around)."""
    folders = [
        sys.base_prefix,
        sys.prefix,
        *(str(Path(module.__file__ or "").parent) for module in (aboard, autograder)),
    ]
    folders.append(str(Path(sys.executable).resolve().parents[1]))
    return [f for f in folders if not f.startswith("/usr/") and f != "/usr"]
