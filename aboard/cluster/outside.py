"""A cluster as whoever started it has it: up, commands in it, faults, down."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aboard.cluster import links, means, shape
from aboard.cluster.links import LOGIN
from aboard.cluster.processes import MARK, children, end_all, seen_from_here, start_time
from aboard.errors import UserError

PATIENCE_S = 60
# What a site's scripts call to load software. Here all software is what is installed, so it has nothing to do.
NO_MODULES = {"BASH_FUNC_module%%": "() { :\n}", "BASH_FUNC_ml%%": "() { :\n}"}


def home() -> Path:
    """Where this user's cluster is kept: $ABOARD_CLUSTER_DIR, or a folder below ~/.local/state."""
    chosen = os.environ.get("ABOARD_CLUSTER_DIR")
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(chosen) if chosen else Path(state, "aboard", "cluster")


class Cluster:
    """A miniature supercomputer that stands.

    Made by `Cluster.up(…)`, or found by `Cluster.find()`. Usable in a `with` statement, whose end takes it down.
    """

    def __init__(self, folder: Path) -> None:
        state = json.loads((folder / "ready.json").read_text())
        self.folder = folder
        self.shape = shape.Shape.from_json((folder / "shape.json").read_text())
        self.means: means.Means = json.loads((folder / "process.json").read_text())["means"]
        self.name = (folder / "name").read_text()
        self._conf, self._run_folder = state["conf"], state["run"]
        self._keepers = seen_from_here(state["keepers"], _process(folder)) if self.means != "ports" else {}

    # --- coming and going

    @classmethod
    def up(
        cls, nodes: int = 4, site: str | None = None, link_rate: str = "1gbit",
        folder: Path | None = None, on_step: Callable[[str], None] = lambda step: None,
        around_slurmd: Sequence[str] = (),
    ) -> Cluster:  # fmt: skip
        """Build a cluster of `nodes` nodes, like `site` if one is named; it stays until `down`.

        link_rate: of each node's link, in each direction, such as "1gbit" or "10mbit". around_slurmd: a command that
        starts the one that follows it, for each node's slurmd and so for all jobs. Raises UserError when one stands
        already, when Slurm is not installed, or when it cannot be built.
        """
        links.bits_per_second(link_rate)
        plan = _plan(nodes, site, link_rate)
        how = means.find()
        folder = folder or home()
        with _locked(folder):
            if _alive(folder):
                raise UserError(
                    f"A cluster stands already ({Cluster(folder)}); `aboard cluster down` takes it down."
                )
            _sweep(folder)
            name = f"{plan.site or 'mini'}-{secrets.token_hex(3)}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "shape.json").write_text(plan.to_json())
            (folder / "name").write_text(name)
            (folder / "around-slurmd.json").write_text(json.dumps(list(around_slurmd)))
            _start(folder, how)
            _wait(folder, on_step)
            return cls(folder)

    @classmethod
    def find(cls, folder: Path | None = None) -> Cluster:
        """The cluster that stands. Raises UserError when there is none."""
        folder = folder or home()
        if not _alive(folder) or not (folder / "ready.json").exists():
            raise UserError("No cluster stands here; `aboard cluster up` builds one.")
        return cls(folder)

    def down(self) -> None:
        """End everything that belongs to it: processes, namespaces, files. Nothing happens when it is down already."""
        take_down(self.folder)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def __str__(self) -> str:
        return f"{self.shape.nodes} node{'s' * (self.shape.nodes > 1)}, {self.shape.title}"

    # --- commands in it

    def command(self, command: Sequence[str], on: str = LOGIN, cwd: str | Path | None = None) -> list[str]:
        """What to execute here for `command` to run on host `on` ("login", "n1", …), in folder `cwd` [default: this one]."""
        if on not in (LOGIN, *self.shape.node_names()):
            raise UserError(
                f"There is no node {on!r}; there are {', '.join([LOGIN, *self.shape.node_names()])}."
            )
        settings = {
            "SLURM_CONF": self._conf,
            "PATH": f"{Path(sys.executable).parent}:{means.search_path()}",  # the software there is that of this Python
            MARK: self.name,
            **NO_MODULES,
        }
        inside = [
            "env",
            "-C",
            str(cwd or Path.cwd()),
            *(f"{key}={value}" for key, value in settings.items()),
            *command,
        ]
        if self.means == "ports":
            return inside
        user = ["--user", "--preserve-credentials"] if self.means == "user" else []
        spaces = ["--mount", "--net", "--uts", "--ipc", "--pid"]
        return ["nsenter", "--target", str(self._keepers[on]), *user, *spaces, "--", *inside]

    def run(
        self,
        *command: str,
        on: str = LOGIN,
        cwd: str | Path | None = None,
        text: str | None = None,
        timeout: float = 60,
    ) -> str:
        """Run `command` there and return what it printed. Raises UserError with its last words when it fails."""
        done = self.ask(*command, on=on, cwd=cwd, text=text, timeout=timeout)
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip() or "it said nothing"
            raise UserError(f"{' '.join(command)} ended with status {done.returncode}: {words}")
        return done.stdout

    def ask(
        self,
        *command: str,
        on: str = LOGIN,
        cwd: str | Path | None = None,
        text: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """The same, however it ends."""
        return subprocess.run(
            self.command(command, on, cwd), input=text, stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
        )  # fmt: skip

    def places(self) -> dict[str, str]:
        """The kernel's name of each node's host name namespace, by which it is known where a process runs → the node."""
        return {
            os.readlink(f"/proc/{pid}/ns/uts"): name for name, pid in self._keepers.items() if name != LOGIN
        }

    # --- faults, to learn from

    def cut(self, node: str) -> None:
        """Pull the cable of `node`. Slurm notices after some seconds."""
        self._order("cut", node=node)

    def slow(self, node: str, rate: str) -> None:
        """Limit the link of `node` to `rate`, such as "10mbit"."""
        self._order("slow", node=node, rate=rate)

    def drain(self, node: str, reason: str = "maintenance") -> None:
        """Let nothing new start on `node`."""
        self._known(node)
        self.run("scontrol", "update", f"nodename={node}", "state=drain", f"reason={reason}")

    def heal(self, node: str) -> None:
        """Undo what was done to `node`."""
        self._known(node)
        if self.means != "ports":
            self._order("heal", node=node)
        for state in ("undrain", "resume"):
            self.ask("scontrol", "update", f"nodename={node}", f"state={state}")
        # All nodes report anew, a node that was cut off among them, so that Slurm learns at once what has ended there.
        self.run("scontrol", "reconfigure")

    def links(self) -> dict[str, Any]:
        """rates: node → rate of its link; cut: nodes without one; bytes: node → (sent, received), as the kernel counts;
        dead: daemons that have ended."""
        return self._order("status")

    def _known(self, node: str) -> None:
        if node not in self.shape.node_names():
            raise UserError(
                f"There is no node {node!r}; this cluster has {', '.join(self.shape.node_names())}."
            )

    def _order(self, what: str, **more: str) -> dict[str, Any]:
        here = os.open(self.folder, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(20)
                line.connect(f"/proc/self/fd/{here}/orders")
                line.sendall(json.dumps({"op": what, **more}).encode() + b"\n")
                answer: dict[str, Any] = json.loads(line.makefile().readline())
        except (OSError, ValueError) as error:
            raise UserError(
                f"The cluster does not answer ({error}); `aboard cluster down` clears it away."
            ) from error
        finally:
            os.close(here)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer


def take_down(folder: Path | None = None) -> bool:
    """End the cluster kept in `folder`, or what is left of one that crashed. Says whether there was anything."""
    folder = folder or home()
    if not folder.exists():
        return False
    with _locked(folder):
        found = (folder / "name").exists()
        _sweep(folder)
    return found


def _plan(nodes: int, site: str | None, link_rate: str) -> shape.Shape:
    if site is None:
        return shape.default(nodes, link_rate)
    from aboard.sites.site import load

    return shape.like(load(site), nodes, link_rate)


def _start(folder: Path, how: means.Means) -> None:
    command = [sys.executable, "-m", "aboard.cluster.keeper", str(folder), how]
    if how != "ports":
        command = [*means.ENTER[how], "--fork", "--kill-child=KILL", "--mount-proc", *command]
    # The shell writes down its number, which stays that of the program it becomes.
    with open(folder / "keeper.log", "wb") as log:
        subprocess.run(
            ["setsid", "--fork", "sh", "-c", 'echo $$ > "$0/pid.tmp" && mv "$0/pid.tmp" "$0/pid" && exec "$@"', str(folder), *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/", check=True,
            env={**os.environ, "PATH": means.search_path()},
        )  # fmt: skip
    deadline = time.monotonic() + 10
    while not (folder / "pid").exists():
        if time.monotonic() > deadline:
            raise UserError(f"The cluster's first process did not start; see {folder}/keeper.log.")
        time.sleep(0.005)
    pid = int((folder / "pid").read_text())
    (folder / "process.json").write_text(json.dumps({"pid": pid, "started": start_time(pid), "means": how}))


def _wait(folder: Path, on_step: Callable[[str], None]) -> None:
    deadline, step = time.monotonic() + PATIENCE_S, ""
    while not (folder / "ready.json").exists():
        now = _read(folder / "step")
        if now and now != step:
            on_step(step := now)
        failed = _read(folder / "failed")
        if failed or not _alive(folder) or time.monotonic() > deadline:
            why = (
                failed or (_read(folder / "keeper.log") or "its first process ended").strip().splitlines()[-1]
            )
            _sweep(folder)
            raise UserError(f"The cluster could not be built: {why}")
        time.sleep(0.02)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone with `folder`, among all who start or end clusters. The file that says so goes away again."""
    path = folder.parent / f".{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
    except OSError as error:
        raise UserError(f"The cluster cannot be kept in {folder}: {error}.") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _lock(path: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)  # whoever had it before has removed it: this one is nobody's lock any more


def _process(folder: Path) -> int | None:
    """Its first process, as it is numbered here; None when that is gone."""
    try:
        known = json.loads((folder / "process.json").read_text())
    except (OSError, ValueError):
        return None
    return known["pid"] if start_time(known["pid"]) == known["started"] else None


def _alive(folder: Path) -> bool:
    return _process(folder) is not None


def _sweep(folder: Path) -> None:
    """End what runs and remove what lies there."""
    first = _process(folder)
    everything = [first] if first else []
    for pid in everything:
        everything += children(pid)
    if first:
        os.kill(first, signal.SIGKILL)  # in namespaces, the kernel ends all the others then
    run = _run_folder(folder)
    name = _read(folder / "name")
    if name:
        end_all(name, run)
    deadline = time.monotonic() + 20
    while any(start_time(pid) for pid in everything):
        if time.monotonic() > deadline:
            raise UserError("Processes of the cluster do not end; look for them with `ps -ef | grep slurm`.")
        time.sleep(0.01)
    if run:
        shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _run_folder(folder: Path) -> str:
    """Where its daemons keep their files; "" when that is not known."""
    try:
        run = str(json.loads((folder / "ready.json").read_text())["run"])
    except (OSError, ValueError):
        return ""
    return run if run.startswith("/tmp/aboard-") else ""
