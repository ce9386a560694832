"""Shape → the files Slurm reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aboard.cluster.shape import Shape

SECONDS_TO_REQUEUE = 5  # Slurm's least; a job that is requeued waits so long before it may start again


@dataclass(frozen=True)
class Place:
    """Where one cluster's Slurm keeps its files, and how its daemons find each other.

    settings: the folder of slurm.conf. controller: value of SlurmctldHost. ports: port of slurmctld, then one of each
    node, where all share one address.
    """

    folder: Path
    settings: Path
    user: str
    controller: str
    ports: list[int] | None = None
    host: str = ""

    @property
    def conf(self) -> Path:
        return self.settings / "slurm.conf"

    @property
    def socket(self) -> Path:
        return self.folder / "munge.socket"

    @property
    def jobs_done(self) -> Path:
        return self.folder / "jobs.done"


def write(shape: Shape, place: Place, cluster: str) -> None:
    """Write all of Slurm's files into `place`."""
    for name in ("state", *shape.node_names()):
        (place.folder / name).mkdir()
    for gpu in range(shape.gpus):  # Slurm wants device files
        (place.folder / f"gpu{gpu}").symlink_to("/dev/null")
    place.conf.write_text(slurm_conf(shape, place, cluster))
    (place.settings / "gres.conf").write_text(
        f"Name=gpu Type={shape.gpu_type} File={place.folder}/gpu[0-{shape.gpus - 1}]\n" if shape.gpus else ""
    )
    # slurmd looks for control groups even where nothing uses them, and ends where there are none. This kind it only names.
    (place.settings / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (place.settings / "job_submit.lua").write_text(job_submit(shape))


def slurm_conf(shape: Shape, place: Place, cluster: str) -> str:
    folder, first, last = place.folder, 1, shape.nodes
    gres = f"Gres=gpu:{shape.gpu_type}:{shape.gpus} " if shape.gpus else ""
    features = f"Features={','.join(shape.features)} " if shape.features else ""
    node = (
        f"CPUs={shape.cores} Boards=1 SocketsPerBoard=1 CoresPerSocket={shape.cores} ThreadsPerCore=1 "
        f"RealMemory={shape.memory_mb} {gres}{features}State=UNKNOWN"
    )
    if place.ports:
        nodes = [
            f"NodeName={name} NodeHostname={place.host} NodeAddr=127.0.0.1 Port={port} {node}"
            for name, port in zip(shape.node_names(), place.ports[1:], strict=True)
        ]
    else:
        nodes = [f"NodeName=n[{first}-{last}] {node}"]
    partitions: list[str] = []
    for name in dict.fromkeys(row.partition for row in shape.rows):
        rows = [row for row in shape.rows if row.partition == name]
        known = [row.minutes for row in rows if row.minutes]
        longest = max(known) if len(known) == len(rows) else None
        partitions.append(
            f"PartitionName={name} Nodes=n[{first}-{last}] State=UP "
            f"MaxTime={longest or 'UNLIMITED'} DefaultTime={min(60, longest or 60)}"
            + (" OverSubscribe=EXCLUSIVE" if all(row.whole_nodes for row in rows) else "")
            + ("" if partitions else " Default=YES")
        )
    ports = f"SlurmctldPort={place.ports[0]}\n" if place.ports else ""
    return f"""\
# {shape.title}, in miniature. Made by `aboard cluster`; it goes away with the cluster.
ClusterName={cluster}
SlurmctldHost={place.controller}
{ports}SlurmUser={place.user}
SlurmdUser={place.user}
AuthType=auth/munge
AuthInfo=socket={place.socket},cred_expire={SECONDS_TO_REQUEUE}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobCompType=jobcomp/filetxt
JobCompLoc={place.jobs_done}
JobSubmitPlugins=lua
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={shape.memory_mb // shape.cores}
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,bf_interval=3
ReturnToService=2
SlurmdTimeout=12
KillWait=5
MinJobAge=1000000
UnkillableStepTimeout=30
{chr(10).join(nodes)}
{chr(10).join(partitions)}
"""


def job_submit(shape: Shape) -> str:
    """The site's rules as the Lua that slurmctld asks about each job."""
    rules: dict[str, object] = {
        "title": shape.title,
        "nodes": shape.nodes,
        "gpus": shape.gpus,
        "account": shape.account,
        "qos_required": shape.qos_required,
        "cores_per_gpu": shape.cores_per_gpu,
        "memory_refused": shape.memory_refused,
        "suffix": _suffix(shape.account_pattern),
        "default_partition": shape.rows[0].partition,
    }
    rows: list[dict[str, object]] = [
        {
            "partition": r.partition,
            "qos": r.qos,
            "least": r.least_nodes,
            "most": r.most_nodes,
            "minutes": r.minutes,
        }
        for r in shape.rows
    ]
    lua = (Path(__file__).parent / "job_submit.lua").read_text(encoding="utf-8")
    return lua.replace("RULES = nil", f"RULES = {_table(rules)}").replace(
        "ROWS = nil", f"ROWS = {{ {', '.join(map(_table, rows))} }}"
    )


def _suffix(pattern: str | None) -> str | None:
    """What an account ends with, of a pattern such as `.+g$` or `.+@h100$`."""
    return pattern.removesuffix("$").lstrip(".+^*") if pattern and pattern.endswith("$") else None


def _table(values: dict[str, object]) -> str:
    known = {key: value for key, value in values.items() if value is not None}
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in known.items()) + " }"
