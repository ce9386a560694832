"""What is here, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

from autograder.sandbox.outer import NOT_INSTALLED, WALLS

GRADING = "grading other people's work (`autograder grade`, `lint`)"
GET_NAMESPACES = (
    "Allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), or "
    "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); inside Docker, run with --privileged."
)
# What each layer is needed for, and how to get it.
NEEDED = {
    "bubblewrap": (f"{GRADING}; it is taken first", GET_NAMESPACES),
    "namespaces": (f"{GRADING} where bubblewrap is not to be had", GET_NAMESPACES),
    "landlock": ("grading exercises without ranks where there are no user namespaces", ""),
}


@dataclass
class Finding:
    """One thing looked at. `needed_for`: what does not work without it."""

    name: str
    ok: bool
    detail: str
    needed_for: str
    get_it: str = ""
    optional: bool = False

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; takes a few seconds because the sandbox is really started."""
    bubblewrap = _program("bwrap", "bubblewrap")
    walls = {name: _sandbox(name) for name in WALLS}
    wall = next((name for name in WALLS if walls[name].ok), None)
    bubblewrap.optional = wall is not None  # one wall is enough
    if wall is None:
        for finding in walls.values():
            finding.optional = False
    return [_python(), _torch(), bubblewrap, _program("ip", "iproute2"), *walls.values(), _sandbox("landlock"),
            _supercomputer(wall or WALLS[0]),
            _module("jupyterlab", "working in the browser", "pip install 'all-aboard[lab]'"),
            _module("jupyter_book", "building the book", "pip install 'all-aboard[book]'")]  # fmt: skip


def _python() -> Finding:
    version = platform.python_version()
    return Finding("Python", True, f"{version} on {platform.system()} {platform.release()}", "everything")


def _torch() -> Finding:
    try:
        import torch
        import torch.distributed as dist

        gloo = dist.is_available() and dist.is_gloo_available()
        return Finding("PyTorch", gloo, f"{torch.__version__}" + ("" if gloo else ", without gloo"), "everything",
                       "" if gloo else "Install a PyTorch build with torch.distributed.")  # fmt: skip
    except ImportError as error:
        return Finding("PyTorch", False, str(error), "everything", "pip install torch")


def _program(program: str, package: str) -> Finding:
    path = shutil.which(program) or next(
        (p for p in (f"/usr/sbin/{program}", f"/sbin/{program}") if os.access(p, os.X_OK)), None
    )
    return Finding(
        package, path is not None, path or "not found", NEEDED[package][0] if package in NEEDED else GRADING,
        "" if path else f"apt-get install {package} (or your system's package of that name)",
    )  # fmt: skip


# Run in a room: what of all this can it do? Nothing, if the room is closed.
PROBE = """
import os, socket
def reads(): open(CANARY).read()
def writes(): open(CANARY, "a").close()
def calls_out(): socket.create_connection(("192.0.2.1", 80), timeout=0.5)
def signals(): os.kill(OUTSIDE, 0)
done = []
for attempt in (reads, writes, calls_out, signals):
    try:
        attempt()
        done.append(attempt.__name__)
    except OSError:
        pass
print(*done)
"""


def _sandbox(layer: str) -> Finding:
    """Start a sandbox of `layer`, and let a room try what it must not be able to do."""
    name, needed, get_it = f"sandbox: {layer}", *NEEDED[layer]
    if platform.system() != "Linux":
        return Finding(name, False, "needs Linux", needed, "Grade on Linux or in WSL; `check` works here.")
    from autograder.errors import SandboxError
    from autograder.exercise import Limits
    from autograder.sandbox.host import Sandbox
    from autograder.sandbox.room_host import RoomGone, SandboxRoom

    try:
        with Sandbox(1, layer) as sandbox, tempfile.NamedTemporaryFile(dir=os.path.expanduser("~")) as canary:
            room = SandboxRoom(sandbox, Limits(), "")
            given = f"CANARY, OUTSIDE = {canary.name!r}, {os.getpid()}\n"
            reply = room.run_cell(given + PROBE, 20)
            room.close()
        done = "".join(o.get("text", "") for o in reply["outputs"]).strip()
        if done or reply["status"] != "ok":  # never optional: it may be the one that grading takes
            return Finding(name, False, f"NOT CLOSED, a notebook {done}", needed)
        return Finding(name, True, ", ".join(sandbox.layers), needed, optional=True)
    except (SandboxError, RoomGone, TimeoutError) as error:
        why = str(error).removeprefix(f"no sandbox works here, so nothing is graded. {layer}: ")
        get_it = "" if why == NOT_INSTALLED else get_it
        return Finding(name, False, why or type(error).__name__, needed, get_it, optional=True)


def _supercomputer(wall: str) -> Finding:
    """Start a cluster of one node behind `wall`, and run a job on it."""
    name, needed = "Slurm", "exercises on job scripts, and `aboard cluster`"
    from aboard.cluster import means

    if absent := means.missing(means.SLURM):
        get_it = "apt-get install --no-install-recommends slurm-wlm munge"
        return Finding(name, False, f"{', '.join(absent)} not found", needed, get_it, optional=True)
    from autograder.errors import SandboxError
    from autograder.expect import Finding as Failed
    from autograder.sandbox.cluster_host import WalledCluster

    try:
        cluster = WalledCluster(1, None, "1gbit", 1024, wall)
        try:
            answer = cluster.submit("#!/bin/bash\nsrun hostname\n")
            said = (
                cluster.wait([answer["job"]], 30)[0]["output"].strip()
                if "job" in answer
                else answer["refused"]
            )
        finally:
            cluster.close()
    except (SandboxError, Failed) as error:
        return Finding(name, False, str(error), needed, optional=True)
    return Finding(
        name, said == "n1", "a job ran in the sandbox" if said == "n1" else said, needed, optional=True
    )


def _module(name: str, what: str, how: str) -> Finding:
    found = importlib.util.find_spec(name) is not None
    return Finding(
        name, found, "installed" if found else "not installed", what, "" if found else how, optional=True
    )
