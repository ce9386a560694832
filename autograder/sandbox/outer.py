"""The wall: a bubblewrap command line that shows the system read-only and nothing of the trainer's.

Visible inside: /usr and what belongs to it, the Python that runs us, this package's two folders, an empty scratch folder, a
minimal /dev and /proc. Not visible: home folders, the course's sources, submissions, results, the environment.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import aboard
import autograder

NETWORK = "10.77.0"  # rank r is 10.77.0.(r+1)
MOST_RANKS = 16
OPEN_FILES = 512  # a process of a room may have at a time
SCRATCH = "/scratch"  # the only writable folder; /tmp is another name for it


def command(control_fd: int, ranks: int) -> tuple[list[str], list[int]]:
    """The command that starts the server behind the wall, and the file descriptors it must inherit."""
    names = "".join(f"{NETWORK}.{r + 1} rank{r}\n" for r in range(MOST_RANKS))
    return _wall(["autograder.sandbox.server", str(control_fd), str(ranks)], control_fd, names)


def cluster_command(control_fd: int, scratch_mib: int) -> tuple[list[str], list[int]]:
    """The same for the server of a miniature supercomputer, whose jobs may write `scratch_mib` MiB in all."""
    server = ["autograder.sandbox.cluster_server", str(control_fd)]
    # For the cluster to mount its own over.
    places = [word for path in ("/run", "/etc/slurm") for word in ("--perms", "0755", "--dir", path)]
    places += [
        "--ro-bind-try",
        "/etc/alternatives",
        "/etc/alternatives",
    ]  # Debian's names of Slurm's programs
    return _wall(server, control_fd, "", [*places, "--size", str(scratch_mib * 2**20)])


def _wall(
    server: list[str], control_fd: int, names: str, more: list[str] | None = None
) -> tuple[list[str], list[int]]:
    files = {
        "/etc/hosts": "127.0.0.1 localhost\n" + names,
        "/etc/nsswitch.conf": "hosts: files\npasswd: files\ngroup: files\n",
        "/etc/passwd": "root:x:0:0::/tmp:/bin/false\nlearner:x:1000:1000::/tmp:/bin/false\n",
        "/etc/group": "root:x:0:\nlearner:x:1000:\n",
    }
    fds = [control_fd]
    line = [bubblewrap() or "bwrap", "--die-with-parent", "--new-session", "--clearenv"]
    line += ["--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() != 0:
        line += ["--unshare-user", "--unshare-pid", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    line += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            line += ["--symlink", str(os.readlink(path)), str(path)]
        elif path.is_dir():
            line += ["--ro-bind", str(path), str(path)]
    line += ["--perms", "0755", "--dir", "/etc"]
    for given in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/fonts"):
        line += ["--ro-bind-try", given, given]
    for made, text in files.items():
        data = tempfile.TemporaryFile()
        data.write(text.encode())
        data.flush()
        data.seek(0)
        fd = os.dup(data.fileno())
        fds.append(fd)
        line += ["--perms", "0444", "--file", str(fd), made]
    folders = list(dict.fromkeys(python_folders()))
    # Folders on the way are made by bubblewrap and must let anybody through: as root, the server steps down.
    for parent in dict.fromkeys(str(p) for f in folders for p in reversed(Path(f).parents) if str(p) != "/"):
        line += ["--perms", "0755", "--dir", parent]
    for folder in folders:
        line += ["--ro-bind", folder, folder]
    # Bubblewrap as root covers parts of /proc, and the kernel then refuses a fresh one inside: take it as it is; the
    # server mounts its own over it before any room exists.
    line += ["--bind", "/proc", "/proc"] if os.geteuid() == 0 else ["--proc", "/proc"]
    line += ["--dev", "/dev", *(more or []), "--perms", "1777", "--tmpfs", SCRATCH, "--chdir", SCRATCH]
    if not any(folder.startswith("/tmp/") for folder in python_folders()):
        line += ["--symlink", SCRATCH, "/tmp"]
    # The folders that bubblewrap made belong to whoever grades, which is who runs the rooms: one room could leave something
    # there for the next. The folder above is a file system of its own, and stays as it is.
    line += ["--remount-ro", "/dev", "--remount-ro", "/"]
    for name, value in (environment(SCRATCH) | mark()).items():
        line += ["--setenv", name, value]
    return [*line, "--", sys.executable, "-m", *server], fds


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
