"""What this machine can do for a miniature supercomputer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Literal

from aboard.errors import UserError

Means = Literal["user", "root", "ports"]
SLURM = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "sinfo", "squeue", "scontrol")
NETWORK = ("unshare", "nsenter", "setpriv", "ip", "tc")
SBIN = "/usr/sbin:/sbin:/usr/local/sbin"  # not on the path of every ordinary user
ENTER = {
    "user": ["unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--mount", "--uts", "--ipc", "--pid"],
    "root": ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid"],
}  # fmt: skip


def search_path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"


def missing(programs: tuple[str, ...]) -> list[str]:
    return [name for name in programs if shutil.which(name, path=search_path()) is None]


def find() -> Means:
    """How a cluster can stand here: in namespaces as an ordinary user or as root, or else several slurmd on one host.

    Raises UserError where Slurm is not installed.
    """
    if sys.platform != "linux":
        raise UserError(
            "The miniature supercomputer needs Linux (on Windows: WSL 2; on a Mac: a Linux virtual machine)."
        )
    if absent := missing(SLURM):
        raise UserError(
            f"The miniature supercomputer is a real Slurm, which is not installed here ({', '.join(absent)} not found): "
            "sudo apt-get install --no-install-recommends slurm-wlm munge"
        )
    means = own()
    return means if why_not(means) is None else "ports"


def own() -> Literal["user", "root"]:
    """By what right whoever runs this would make namespaces."""
    return "root" if os.getuid() == 0 else "user"


def why_not(means: Literal["user", "root"]) -> str | None:
    """Why no namespaces are to be had, in words; None when they are."""
    if absent := missing(NETWORK):
        return f"{', '.join(absent)} not found: sudo apt-get install iproute2 util-linux"
    trial = "mount -t tmpfs tmpfs /run && ip link add hsn0 type veth peer name port0 && tc qdisc add dev hsn0 root tbf rate 1mbit burst 32kb latency 50ms"
    done = subprocess.run(
        [*ENTER[means], "--fork", "--mount-proc", "sh", "-c", trial],
        env={**os.environ, "PATH": search_path()}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return None
    said = (done.stderr.strip().splitlines() or ["unshare failed without a word"])[-1]
    return f"this machine grants no namespaces with links of their own ({said})"
