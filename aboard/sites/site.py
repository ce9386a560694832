"""The profile of one machine, read from its folder `aboard/sites/NAME/site.toml`.

Every fact has a source under its own key in `[sources]`; a fact nobody has found is absent, and is asked of the user.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aboard.errors import UserError

FOLDER = Path(__file__).parent
UNVERIFIED = "unverified"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Partition(_Strict):
    """What one partition allows under one quality of service: a row of the site's table of limits.

    qos: absent where a job in this row names none; "<account>" where it is called as the account is. max_walltime_h:
    hours. whole_nodes: nodes are given and charged whole. on_request: not for everybody, or not for training; never
    chosen for a job that does not name it.
    """

    partition: str
    qos: str | None = None
    partition_nodes: int | None = None
    min_nodes: int | None = None
    max_nodes_per_job: int | None = None
    max_walltime_h: float | None = None
    whole_nodes: bool = False
    on_request: bool = False
    note: str | None = None


class Line(_Strict):
    """A line that a job script on this machine needs, with its reason.

    place: "header" is an #SBATCH option, "setup" a shell command, "env" NAME=value, "srun" an option of srun,
    "container" one that a job with a container needs besides.
    """

    place: Literal["header", "setup", "env", "srun", "container"]
    line: str
    why: str
    source: str


class Request(_Strict):
    """How a job asks this machine for what it needs.

    gpus: the option that asks for GPUs. cores_per_gpu: cores that go with one. exact_cores: any other number is refused.
    memory: of a whole node; absent where jobs do not say. memory_refused: jobs may not say. launcher: "torchrun" starts
    one task per node, which starts the ranks; "srun" starts one task per GPU. account: what an account looks like;
    account_pattern: what it has to look like. container: the command that runs an image, or the option of srun that
    names one. offline: nothing outside can be reached from a compute node. names_partition: a job says --partition.
    rendezvous: shell command that prints lines which begin with the address of `$FIRST_HOST`.
    """

    gpus: Literal["gres", "gpus-per-node", "gpus", "gpus-per-task"]
    cores_per_gpu: int
    exact_cores: bool = False
    memory: str | None = None
    memory_refused: bool = False
    shebang: str = "#!/bin/bash"
    launcher: Literal["torchrun", "srun"] = "torchrun"
    account: str | None = None
    account_pattern: str | None = None
    container: str | None = None
    offline: bool | None = None
    names_partition: bool = True
    rendezvous: str | None = None
    lines: list[Line] = []


class Storage(_Strict):
    name: str
    path: str | None = None
    quota: str | None = None
    inodes: str | None = None
    retention: str | None = None
    billing: str | None = None
    backup: str | None = None


class Trap(_Strict):
    """What goes wrong for newcomers to this machine, as a warning, and who says so."""

    text: str
    source: str


class Site(_Strict):
    """One machine. Names as in the profile; a "GPU" is what its Slurm counts as one."""

    id: str
    name: str
    status: Literal["production", "planned", "retired"]
    status_note: str | None = None
    operator: str | None = None
    country: str | None = None
    doc_url: str | None = None

    login_hosts: list[str] = []
    login_port: int | None = None
    login_notes: str | None = None

    arch: str | None = None
    gpu_vendor: str | None = None
    gpu_model: str | None = None
    gpu_nodes: int | None = None
    gpus_per_node_slurm: int | None = None
    gpu_unit_note: str | None = None
    billing_gpus_per_node: int | None = None
    gpu_mem_gb: float | None = None
    peak_bf16_dense_tflops: float | None = None
    peak_bf16_planning_tflops: float | None = None
    hbm_bw_gb_s: float | None = None
    intra_node_link: str | None = None
    intra_node_bw_gb_s_bidir_per_gpu: float | None = None
    nics_per_node: int | None = None
    nic_gbps: float | None = None
    node_injection_gbps: float | None = None
    fabric: str | None = None
    topology: str | None = None
    cpu_model: str | None = None
    cpu_cores_per_node: int | None = None
    cpu_cores_usable: int | None = None
    host_mem_gb: float | None = None
    slurm_mem_mb: int | None = None
    local_disk_gb: float | None = None

    default_partition: str | None = None
    account_required: bool | None = None
    qos_required: bool | None = None
    billing: str | None = None
    internet_compute: str | None = None
    internet_login: str | None = None
    container_runtime: str | None = None
    container_images: str | None = None
    modules: list[str] = []
    cpu_bind: str | None = None
    rendezvous_note: str | None = None
    quota_cmd: str | None = None
    budget_cmd: str | None = None
    monitoring: list[str] = []
    measured: str | None = None
    access: str | None = None

    partitions: list[Partition] = []
    storage: list[Storage] = []
    request: Request | None = None
    traps: list[Trap] = []
    sources: dict[str, str]

    def source(self, key: str) -> str:
        """Who says so; "unverified" when nobody who could be named does."""
        return self.sources[key]

    def verified(self, key: str) -> bool:
        return not self.sources[key].startswith(UNVERIFIED)

    def unknown(self) -> list[str]:
        """Facts that a profile may hold and this one does not."""
        return [
            key
            for key in type(self).model_fields
            if key not in ("status_note", "sources", "traps") and getattr(self, key) in (None, [])
        ]

    def planned(self) -> bool:
        return self.status == "planned"


def names() -> list[str]:
    """Ids of all sites there are a folder for."""
    return sorted(path.parent.name for path in FOLDER.glob("*/site.toml"))


def load(name: str, folder: Path = FOLDER) -> Site:
    """The site `name`. Raises UserError when there is none, or when its profile is not one."""
    path = folder / name / "site.toml"
    if not path.is_file() or "/" in name:
        near = difflib.get_close_matches(name, names(), 1, 0.4)
        meant = f"; did you mean {near[0]}?" if near else "."
        raise UserError(f"There is no site {name!r}{meant} `aboard sites` lists them.")
    return read(path)


def read(path: Path) -> Site:
    """The profile in the file `path`. Raises UserError naming what is wrong with it."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        site = Site.model_validate(values)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is no site profile: {where}: {first['msg']}.") from error
    if site.id != path.parent.name:
        raise UserError(f"{path} says id = {site.id!r}, but stands in a folder named {path.parent.name!r}.")
    without = [
        key for key in values if key not in site.sources and key not in ("sources", "traps", "status_note")
    ]
    if without:
        raise UserError(
            f'{path} names no source for {", ".join(without)}; write one, or "unverified", in [sources].'
        )
    return site
