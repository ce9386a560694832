"""What is here, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from typing import Any


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
    return [_python(), _torch(), _program("bwrap", "bubblewrap"), _program("ip", "iproute2"), _sandbox(),
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
        package, path is not None, path or "not found", "grading other people's work (`autograder grade`, `lint`)",
        "" if path else f"apt-get install {package} (or your system's package of that name)",
    )  # fmt: skip


def _sandbox() -> Finding:
    """Start a sandbox, run a cell in it, and look whether it is closed."""
    needed = "grading other people's work (`autograder grade`, `lint`)"
    if platform.system() != "Linux":
        return Finding(
            "sandbox", False, "needs Linux", needed, "Grade on Linux or in WSL; `check` works here."
        )
    from autograder.exercise import Limits
    from autograder.sandbox.host import LAYERS, RoomGone, Sandbox, SandboxError, SandboxRoom

    try:
        with Sandbox(1) as sandbox:
            room = SandboxRoom(sandbox, Limits(), "")
            home = os.path.expanduser("~")
            source = f"import os; print(os.getuid(), os.path.exists({home + '/.ssh'!r}))"
            reply = room.run_cell(source, 20)
            room.close()
        text = "".join(o.get("text", "") for o in reply["outputs"]).strip()
        ok = text == "1000 False"
        return Finding("sandbox", ok, ", ".join(LAYERS) if ok else f"not closed: {text}", needed)
    except (SandboxError, RoomGone, TimeoutError) as error:
        return Finding(
            "sandbox", False, str(error) or type(error).__name__, needed,
            "Allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), or "
            "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); inside Docker, run with --privileged.",
        )  # fmt: skip


def _module(name: str, what: str, how: str) -> Finding:
    found = importlib.util.find_spec(name) is not None
    return Finding(
        name, found, "installed" if found else "not installed", what, "" if found else how, optional=True
    )
