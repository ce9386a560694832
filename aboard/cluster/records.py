"""What Slurm knows of jobs and nodes: its own records, as rows."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aboard.cluster.outside import Cluster
from aboard.cluster.patience import Patience
from aboard.errors import UserError
from aboard.table import Table

OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


@dataclass(frozen=True)
class Job:
    """One job as slurmctld has it. minutes: its time limit. restarts: how often it was requeued."""

    id: int
    name: str
    state: str
    exit_code: int
    signal: int
    nodes: list[str]
    partition: str
    account: str
    minutes: int | None
    restarts: int
    reason: str
    output: Path
    fields: dict[str, str]

    @property
    def over(self) -> bool:
        return self.state in OVER


def submit(cluster: Cluster, script: str | Path, *options: str, cwd: str | Path | None = None) -> int:
    """Hand a job script to sbatch: a file, or the text of one. Returns the job's id; raises UserError with sbatch's words."""
    if isinstance(script, Path):
        printed = cluster.run("sbatch", "--parsable", *options, str(script), cwd=cwd)
    else:
        printed = cluster.run("sbatch", "--parsable", *options, cwd=cwd, text=script)
    return int(printed.strip().splitlines()[-1].partition(";")[0])


def job(cluster: Cluster, number: int) -> Job:
    """The job with this id. Raises UserError when there is none."""
    return _job(cluster.run("scontrol", "show", "job", "-o", "-d", str(number)).strip().splitlines()[0])


def jobs(cluster: Cluster) -> list[Job]:
    """All jobs since the cluster came up, first one first."""
    printed = cluster.run("scontrol", "show", "job", "-o", "-d")
    return [_job(line) for line in printed.splitlines() if line.startswith("JobId=")]


def wait(cluster: Cluster, number: int, seconds: float = 120) -> Job:
    """The job once it is over. Raises UserError when it is not after so many seconds (of the cluster's: see `patience`)."""
    patience = Patience(cluster.name, seconds)
    while True:
        found = job(cluster, number)
        if found.over:
            return found
        if patience.over():
            raise UserError(
                f"Job {number} is not over after {seconds:.0f} s: {found.state} ({found.reason})."
            )
        time.sleep(0.1)


def job_table(found: Sequence[Job]) -> Table:
    rows = [
        [str(j.id), j.name, j.state, ",".join(j.nodes) or "-", str(j.exit_code), str(j.restarts), _reason(j)]
        for j in found
    ]
    return Table(["job", "name", "state", "nodes", "exit", "requeued", "why"], rows)


def nodes(cluster: Cluster) -> Table:
    """Each node's state, cores and GPUs in use, and link."""
    printed = cluster.run("scontrol", "show", "node", "-o", "-d")
    links: dict[str, Any] = cluster.links()
    rows = []
    for line in printed.splitlines():
        field = dict(re.findall(r"(\w+)=(\S*)", line))
        name = field["NodeName"]
        gpus = re.match(r"gpu:(?:\w+:)?(\d+)", field.get("GresUsed", ""))
        used = gpus[1] if gpus else "0"
        link = "cut" if name in links["cut"] else links["rates"][name] if cluster.means != "ports" else "-"
        rows.append(
            [
                name,
                field["State"].lower().rstrip("*"),
                f"{field['CPUAlloc']}/{field['CPUTot']}",
                f"{used}/{cluster.shape.gpus}",
                link,
            ]
        )
    return Table(["node", "state", "cores", "GPUs", "link"], rows)


def _reason(found: Job) -> str:
    return "" if found.reason == "None" else found.reason


def _job(line: str) -> Job:
    field = dict(re.findall(r"(\w+)=(.*?)(?= \w[\w/:]*=|$)", line))
    code, _, by = field.get("ExitCode", "0:0").partition(":")
    limit = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", field.get("TimeLimit", ""))
    minutes = int(limit[1] or 0) * 1440 + int(limit[2]) * 60 + int(limit[3]) if limit else None
    return Job(
        id=int(field["JobId"]), name=field.get("JobName", ""), state=field["JobState"], exit_code=int(code), signal=int(by or 0),
        nodes=_expand(field.get("NodeList", "")), partition=field.get("Partition", ""),
        account=field.get("Account", "").replace("(null)", ""), minutes=minutes, restarts=int(field.get("Restarts", "0")),
        reason=field.get("Reason", "None"), output=Path(field.get("StdOut", "")), fields=field,
    )  # fmt: skip


def _expand(names: str) -> list[str]:
    """n[1-2,4] → n1, n2, n4."""
    found = re.fullmatch(r"(\w+?)\[([\d,-]+)\]", names)
    if not found:
        return [] if names in ("", "(null)") else names.split(",")
    parts = [part.partition("-") for part in found[2].split(",")]
    return [f"{found[1]}{n}" for first, _, last in parts for n in range(int(first), int(last or first) + 1)]
