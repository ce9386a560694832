"""Trusted, inside a wall of its own: a miniature supercomputer for one submission's job scripts, and the way to it.

Jobs are not trusted. They run in the cluster's namespaces, with no capability, behind the filter on system calls, and can
see neither this process nor the socket that gives the cluster orders. What they could still do is end Slurm's daemons, which
run as the same user: then nothing more can be verified, and no points come of it. Started as
`python -m autograder.sandbox.cluster_server FD` by `outer.cluster_command`.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aboard.errors import UserError
from autograder.login import Broken, Login
from autograder.sandbox import kernel as k
from autograder.sandbox import messages, seccomp
from autograder.sandbox.outer import SCRATCH
from autograder.sandbox.server import step_inside

ONE_PROCESS_MIB = 2048
PROCESSES = 700  # threads of all daemons and jobs together
LOOK_S = 0.2


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    step_inside(control, as_user=1000)
    k.prctl(k.PR_SET_DUMPABLE, 1)
    for what, value in (
        (resource.RLIMIT_DATA, ONE_PROCESS_MIB * 2**20),
        (resource.RLIMIT_FSIZE, 256 * 2**20),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
    order = messages.receive(control)
    try:
        login = Login(
            order["nodes"], order["site"], order["rate"], Path(SCRATCH),
            [sys.executable, "-m", "autograder.sandbox.filtered"],
        )  # fmt: skip
        if login.cluster.means == "ports":
            raise UserError("no namespaces for nodes are to be had here")
    except UserError as error:
        messages.send(control, {"problem": str(error)})
        return
    messages.send(control, {"problem": "", "seccomp": seccomp.offered()})
    watch = Watch(login, order["memory_mib"])
    threading.Thread(target=watch.run, daemon=True).start()
    while True:
        try:
            order = messages.receive(control)
        except (EOFError, OSError):
            return  # process 1 of its namespace: the kernel ends the cluster with it
        messages.send(control, _obey(login, watch, order))


def _obey(login: Login, watch: Watch, order: dict[str, Any]) -> dict[str, Any]:
    try:
        value = getattr(login, order["op"])(*order["args"])
    except Broken as error:
        return {"broken": "out-of-memory" if watch.over else "cluster-broken", "message": str(error)}
    except (OSError, UserError, LookupError, ValueError) as error:
        return {"broken": "cluster-broken", "message": f"{type(error).__name__}: {error}"}
    if watch.over:
        return {"broken": "out-of-memory", "message": ""}
    return {"value": value}


class Watch:
    """Keeps the memory of all jobs together in bounds."""

    def __init__(self, login: Login, memory_mib: int) -> None:
        self.login, self.limit, self.over = login, memory_mib * 2**20, False

    def run(self) -> None:
        while not self.over:
            time.sleep(LOOK_S)
            if taken() > self.limit:
                self.over = True
                self.login.close()


def taken() -> int:
    """Bytes that all processes of this namespace have of their own, and that lie in the scratch folder."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/status", "rb") as file:
                    for line in file:
                        if line.startswith((b"RssAnon:", b"RssShmem:")):
                            total += int(line.split()[1]) * 1024
            except OSError:
                pass
    scratch = os.statvfs(SCRATCH)
    return total + (scratch.f_blocks - scratch.f_bfree) * scratch.f_frsize


if __name__ == "__main__":
    main()
