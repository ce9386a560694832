"""What a miniature supercomputer is: its nodes, and the rules by which it takes jobs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from aboard.errors import UserError

if TYPE_CHECKING:
    from aboard.sites.site import Request, Site

MOST_NODES = 16
GPU_TYPES = {"AMD": "mi250"}  # the type of GPU as Slurm calls it, where it is not read off the model's name


@dataclass(frozen=True)
class Row:
    """What one partition allows under one QOS. most_nodes and minutes: None where it is not known."""

    partition: str
    qos: str | None = None
    least_nodes: int | None = None
    most_nodes: int | None = None
    minutes: int | None = None
    whole_nodes: bool = False


@dataclass(frozen=True)
class Shape:
    """A cluster before it stands.

    nodes: how many stand here. cores, gpus, memory_mb: of each. rate: of a link, in each direction, as tc(8) writes it.
    rows: the limits, in the site's order; the first one's partition is the default. The rest are the site's rules.
    """

    title: str
    nodes: int
    cores: int
    gpus: int
    memory_mb: int
    rows: list[Row]
    site: str | None = None
    gpu_type: str = "gpu"
    rate: str = "1gbit"
    account: str | None = None  # what an account looks like; None: no account is asked for
    account_pattern: str | None = None
    qos_required: bool = False
    cores_per_gpu: int | None = None  # a site that takes no other number
    memory_refused: bool = False
    features: list[str] = field(default_factory=list)  # what jobs may ask for with --constraint
    interface: str = "hsn0"  # name of the link on a node
    left_out: list[str] = field(default_factory=list)  # what is not known of the site, in words

    def node_names(self) -> list[str]:
        return [f"n{i + 1}" for i in range(self.nodes)]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Shape:
        values = json.loads(text)
        return cls(**{**values, "rows": [Row(**row) for row in values["rows"]]})


def default(nodes: int, rate: str) -> Shape:
    """A cluster of no site in particular, which refuses nothing but what Slurm itself does."""
    return Shape(
        title="the miniature supercomputer", nodes=_checked(nodes), cores=32, gpus=4, memory_mb=256_000, rate=rate,
        rows=[Row("standard", minutes=24 * 60), Row("debug", most_nodes=2, minutes=30)],
    )  # fmt: skip


def like(site: Site, nodes: int, rate: str) -> Shape:
    """A cluster with `site`'s partitions, limits and rules. Raises UserError for a site that has no known ones."""
    if site.planned() or not site.partitions or site.request is None:
        raise UserError(f"{site.name} cannot be imitated: its partitions are not known ({site.status}).")
    request, left_out = site.request, []
    gpus = site.gpus_per_node_slurm
    cores = site.cpu_cores_usable or site.cpu_cores_per_node
    memory = site.slurm_mem_mb or (int(site.host_mem_gb * 1000) if site.host_mem_gb else None)
    if gpus is None or cores is None:
        raise UserError(f"{site.name} cannot be imitated: the GPUs or cores of a node are not known.")
    if memory is None:
        memory = 256_000
        left_out.append("the memory of a node is not known; 256 GB stand in for it")
    rows = [
        Row(
            partition=one.partition,
            qos=one.qos,
            least_nodes=one.min_nodes,
            most_nodes=one.max_nodes_per_job,
            minutes=round(one.max_walltime_h * 60) if one.max_walltime_h else None,
            whole_nodes=one.whole_nodes,
        )
        for one in site.partitions
        if not one.on_request
    ]
    for row in rows:
        name = row.partition + (f" with QOS {row.qos}" if row.qos else "")
        if row.most_nodes is None:
            left_out.append(f"the largest job of {name} is not known; any size is taken")
        if row.minutes is None:
            left_out.append(f"the longest job of {name} is not known; any time is taken")
    rows.sort(key=lambda row: row.partition != (site.default_partition or rows[0].partition))
    return Shape(
        title=site.name, site=site.id, nodes=_checked(nodes), cores=cores, gpus=gpus, memory_mb=memory, rows=rows, rate=rate,
        gpu_type=GPU_TYPES.get(site.gpu_vendor or "", _type_of(site.gpu_model or "")),
        account=request.account if site.account_required else None,
        account_pattern=request.account_pattern,
        qos_required=bool(site.qos_required),
        cores_per_gpu=request.cores_per_gpu if request.exact_cores else None,
        memory_refused=request.memory_refused,
        features=[line.line.partition("=")[2] for line in request.lines if line.line.startswith("--constraint=")],
        interface=_interface(request),
        left_out=left_out,
    )  # fmt: skip


def _interface(request: Request) -> str:
    """What the site's network is called on a node: the first one that its jobs name."""
    for line in request.lines:
        name, _, value = line.line.partition("=")
        if line.place == "env" and name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
            return value.partition(",")[0]
    return "hsn0"


def _checked(nodes: int) -> int:
    if not 1 <= nodes <= MOST_NODES:
        raise UserError(f"A cluster here has 1 to {MOST_NODES} nodes, not {nodes}.")
    return nodes


def _type_of(model: str) -> str:
    for known in ("A100", "H100", "H200", "GH200"):
        if known in model.split() or known.lower() in model.lower().split("-"):
            return known.lower()
    return "gpu"
