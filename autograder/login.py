"""What a judge does with a supercomputer, as one does it on a login node: hand in scripts, look at records, pull cables.

The cluster is a real Slurm in miniature (`aboard.cluster`). `Login` works on one that stands where it runs: a learner's
own machine, or the inside of a wall (`sandbox/cluster_server.py`). All it takes and returns is plain data.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from aboard.cluster import Cluster, records
from aboard.cluster.outside import MARK
from aboard.cluster.patience import Patience
from aboard.errors import UserError

MOST_TEXT = 256 * 1024  # bytes of a file or of an output that are handed on
MOST_FILES = 200


class Broken(Exception):
    """The cluster does not do what clusters do any more: what ran on it has ended a part of it."""


class Supercomputer(Protocol):
    """What `Login` offers, wherever the cluster stands."""

    def put(self, name: str, text: str) -> None: ...
    def run(self, script: str, seconds: float) -> dict[str, Any]: ...
    def serve(self, program: str) -> None: ...
    def submit(self, script: str, options: Sequence[str] = ()) -> dict[str, Any]: ...
    def wait(self, jobs: Sequence[int], seconds: float) -> list[dict[str, Any]]: ...
    def watch(self, jobs: Sequence[int], program: str, seconds: float) -> list[dict[str, Any]]: ...
    def until(self, name: str, text: str, seconds: float) -> bool: ...
    def read(self, pattern: str) -> dict[str, str]: ...
    def running(self, program: str) -> list[dict[str, Any]]: ...
    def signal(self, job: int, name: str) -> None: ...
    def cancel(self, job: int) -> None: ...
    def fault(self, what: str, node: str, rate: str = "") -> None: ...
    def carried(self) -> dict[str, list[int]]: ...
    def close(self) -> None: ...


class Login:
    """The login node of a cluster that this makes, with a folder of its own for scripts and what they write."""

    def __init__(
        self, nodes: int, site: str | None, rate: str, place: Path, around_slurmd: Sequence[str] = ()
    ) -> None:
        """Raises UserError where no cluster can be had."""
        self.cluster = Cluster.up(nodes, site, rate, place / "cluster", around_slurmd=around_slurmd)
        self.folder = place / "work"
        self.folder.mkdir()
        self.served: list[subprocess.Popen[bytes]] = []
        self.confine = list(around_slurmd)  # what runs on the login node is no more trusted than a job

    def put(self, name: str, text: str) -> None:
        """Write a file into the folder that jobs start in. It is there at every moment, if it was before."""
        beside = self.folder / f".{name}.part"
        beside.unlink(missing_ok=True)  # whatever a job has made of it
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.folder / name)

    def run(self, script: str, seconds: float) -> dict[str, Any]:
        """Run a shell script on the login node: {"status": how it ended, "output": what it printed}.

        A script that is not done after so many seconds is ended; its status is 124.
        """
        limited = ["timeout", "--kill-after=1", f"{seconds:.1f}", "bash", "-s"]
        try:
            done = self.cluster.ask(
                *self.confine, *limited, cwd=self.folder, text=script, timeout=seconds + 10
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Broken(f"the login node does not answer ({type(error).__name__})") from None
        return {"status": done.returncode, "output": (done.stdout + done.stderr)[:MOST_TEXT]}

    def serve(self, program: str) -> None:
        """Start a Python program of the judge's on the login node, which runs there until the cluster is down.

        It goes there through a pipe and lies in no file, so that it may hold what scripts on that node must not know.
        """
        command = self.cluster.command([*self.confine, sys.executable, "-I", "-"], cwd=self.folder)
        served = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.served.append(served)
        assert served.stdin is not None
        try:
            served.stdin.write(program.encode())
            served.stdin.close()
        except OSError:
            raise Broken("the login node takes no program") from None

    def submit(self, script: str, options: Sequence[str] = ()) -> dict[str, Any]:
        """{"job": its number}, or {"refused": what sbatch said}."""
        done = self._ask("sbatch", "--parsable", *options, text=script)
        if done.returncode:
            return {"refused": _clipped(_reasons(done.stderr) or done.stdout.strip())}
        try:
            return {"job": int(done.stdout.strip().splitlines()[-1].partition(";")[0])}
        except (ValueError, IndexError):
            raise Broken(f"sbatch printed {_clipped(done.stdout)!r} for a job's number") from None

    def wait(self, jobs: Sequence[int], seconds: float) -> list[dict[str, Any]]:
        """The records of the jobs once all are over, or as they are after so many seconds.

        Seconds in which the cluster computes, or waits for a core of a busy machine, do not count, up to `MOST` times as many.
        """
        patience = Patience(self.cluster.name, seconds)
        while True:
            found = [self._record(number) for number in jobs]
            if all(one["over"] for one in found) or patience.over():
                return found
            time.sleep(0.1)

    def watch(self, jobs: Sequence[int], program: str, seconds: float) -> list[dict[str, Any]]:
        """Like `wait`, and each record also has the "processes" of its job that ran `python PROGRAM`, see `running`.

        What ran is found by looking, so `PROGRAM` must wait to be looked at: until a file `seen-NODE-PID` is there.
        """
        patience = Patience(self.cluster.name, seconds)
        seen: dict[tuple[str, int], dict[str, Any]] = {}
        # When to ask Slurm, which takes a process and a daemon's time: less often than the kernel
        ask_at = 0.0
        while True:
            for one in self.running(program):
                if (one["node"], one["pid"]) not in seen:
                    seen[one["node"], one["pid"]] = one
                    self.put(f"seen-{one['node']}-{one['pid']}", "")
            if time.monotonic() > ask_at:
                found = [self._record(number) for number in jobs]
                if all(one["over"] for one in found) or patience.over():
                    break
                ask_at = time.monotonic() + 0.2
            time.sleep(0.05)
        for number, record in zip(jobs, found, strict=True):
            numbers = {str(one) for one in (number, *(task["id"] for task in record.get("array", [])))}
            record["processes"] = [
                one for one in seen.values() if one["variables"].get("SLURM_JOB_ID") in numbers
            ]
        return found

    def until(self, name: str, text: str, seconds: float) -> bool:
        """Wait until the file holds the text, for so many seconds of the same kind; whether it does."""
        patience = Patience(self.cluster.name, seconds)
        while text not in _head(self.folder / name):
            if patience.over():
                return False
            time.sleep(0.05)
        return True

    def read(self, pattern: str) -> dict[str, str]:
        """Files of the folder whose names fit, and what they hold; links are not followed."""
        paths = sorted(self.folder.glob(pattern))[:MOST_FILES]
        return {path.name: _head(path) for path in paths if path.is_file() and not path.is_symlink()}

    def running(self, program: str) -> list[dict[str, Any]]:
        """The processes that run `python PROGRAM` on the nodes now, as the kernel has them: nothing in a job is asked.

        Of each the "node"; "pid", as it numbers itself; "arguments"; and "variables", its environment when it was started.
        """
        places = {} if self.cluster.means == "ports" else self.cluster.places()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                words = (
                    Path(f"/proc/{entry}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
                )
                script = next((n for n, word in enumerate(words) if n and not word.startswith("-")), 0)
                if (
                    not script
                    or os.path.basename(words[script]) != program
                    or not os.path.basename(words[0]).startswith("python")
                ):
                    continue
                text = Path(f"/proc/{entry}/environ").read_bytes().decode("utf-8", "replace")
                host = os.readlink(f"/proc/{entry}/ns/uts")
                inner = re.search(
                    r"^NSpid:.*?(\d+)$", Path(f"/proc/{entry}/status").read_text(), re.MULTILINE
                )
            except OSError:
                continue  # it has ended, or is somebody else's
            variables = dict(line.partition("=")[::2] for line in text.split("\0") if "=" in line)
            node = places.get(host) if places else variables.get("SLURMD_NODENAME")
            if node and inner and variables.get(MARK) in (None, self.cluster.name):
                found.append(
                    {
                        "node": node,
                        "pid": int(inner[1]),
                        "arguments": words[script + 1 :][:20],
                        "variables": variables,
                    }
                )
        return found[:MOST_FILES]

    def signal(self, job: int, name: str) -> None:
        """Send the signal to the job's script, and to nothing else: as Slurm does when time runs out."""
        self._ask("scancel", f"--signal={name}", "--batch", str(job))

    def cancel(self, job: int) -> None:
        """End the job, now."""
        self._ask("scancel", str(job))

    def fault(self, what: str, node: str, rate: str = "") -> None:
        """cut, slow (to a rate) or heal the link of a node; or drain the node, so that no job starts there."""
        try:
            self.cluster.slow(node, rate) if what == "slow" else getattr(self.cluster, what)(node)
        except UserError as error:
            raise Broken(str(error)) from None

    def carried(self) -> dict[str, list[int]]:
        """Node → bytes its link has sent and received since the cluster came up, as the kernel counts them."""
        try:
            return {node: list(pair) for node, pair in self.cluster.links()["bytes"].items()}
        except UserError as error:
            raise Broken(str(error)) from None

    def close(self) -> None:
        self.cluster.down()
        for program in self.served:
            program.kill()
            program.wait()

    def _record(self, number: int) -> dict[str, Any]:
        done = self._ask("scontrol", "show", "job", "-o", "-d", str(number))
        if done.returncode or not done.stdout.startswith("JobId="):
            raise Broken(f"scontrol says of job {number}: {_clipped(done.stderr or done.stdout)}")
        tasks = []
        for line in done.stdout.strip().splitlines():
            one = records._job(line)
            gpus = re.search(r"JOB_GRES=gpu\S*?:(\d+)", line)
            cores = re.search(r" NumCPUs=(\d+)", line)
            count = re.search(r" NumTasks=(\d+)", line)
            tasks.append(
                {
                    "id": one.id, "state": one.state, "over": one.over, "exit_code": one.exit_code, "signal": one.signal,
                    "nodes": one.nodes, "account": one.account, "partition": one.partition, "minutes": one.minutes,
                    "restarts": one.restarts, "reason": one.reason, "name": one.name,
                    "gpus": int(gpus[1]) if gpus else 0, "cores": int(cores[1]) if cores else 0,
                    "tasks": int(count[1]) if count else 0, "index": one.fields.get("ArrayTaskId", ""),
                    "at_once": one.fields.get("ArrayTaskThrottle", ""),
                    "output": _head(one.output),
                }
            )  # fmt: skip
        if len(tasks) == 1 and not tasks[0]["index"]:
            return tasks[0]
        return {**tasks[0], "id": number, "over": all(t["over"] for t in tasks), "array": tasks}

    def _ask(self, *command: str, text: str | None = None) -> Any:
        try:
            done = self.cluster.ask(*command, cwd=self.folder, text=text, timeout=10)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Broken(f"{command[0]} does not come back ({type(error).__name__})") from None
        if "Unable to contact slurm controller" in done.stderr:
            raise Broken("slurmctld does not answer any more")
        return done


def _head(path: Path) -> str:
    """The first part of a file, as text; nothing when it is not a plain file of somebody's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            return file.read(MOST_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""


def _reasons(text: str) -> str:
    """What sbatch printed, without the line that says nothing where a machine's own words stand before it."""
    lines = text.strip().splitlines()
    told = [line for line in lines if not line.endswith("submission failed: Unspecified error")]
    return "\n".join(told or lines)


def _clipped(text: str) -> str:
    return text if len(text) <= 500 else text[:497] + "…"
