"""A profile in words: for a terminal, and as the rows that a page of the book is made of."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from aboard.sites.site import Partition, Site
from aboard.table import Table

# Group → fact → its name in words. {} stands for the value where a unit belongs to it.
FACTS: dict[str, dict[str, tuple[str, str]]] = {
    "Who": {
        "operator": ("operator", "{}"),
        "country": ("country", "{}"),
        "doc_url": ("documentation", "{}"),
        "access": ("access", "{}"),
    },
    "Getting on": {
        "login_hosts": ("login hosts", "{}"),
        "login_port": ("SSH port", "{}"),
        "login_notes": ("login", "{}"),
        "internet_login": ("internet from login nodes", "{}"),
        "internet_compute": ("internet from compute nodes", "{}"),
    },
    "A node": {
        "arch": ("architecture", "{}"),
        "gpu_model": ("GPU", "{}"),
        "gpus_per_node_slurm": ("GPUs, as Slurm counts", "{}"),
        "gpu_unit_note": ("what a GPU is", "{}"),
        "gpu_mem_gb": ("memory of a GPU", "{} GB"),
        "peak_bf16_dense_tflops": ("peak, bf16, dense", "{} TFLOP/s per GPU"),
        "peak_bf16_planning_tflops": ("peak to plan with", "{} TFLOP/s per GPU"),
        "hbm_bw_gb_s": ("memory bandwidth", "{} GB/s per GPU"),
        "intra_node_link": ("between GPUs", "{}"),
        "intra_node_bw_gb_s_bidir_per_gpu": ("between GPUs, both ways", "{} GB/s per GPU"),
        "cpu_model": ("processor", "{}"),
        "cpu_cores_per_node": ("cores", "{}"),
        "cpu_cores_usable": ("cores a job can use", "{}"),
        "host_mem_gb": ("memory", "{} GB"),
        "slurm_mem_mb": ("memory in Slurm's books", "{} MB"),
        "local_disk_gb": ("disk", "{} GB"),
    },
    "All nodes": {
        "gpu_nodes": ("nodes with GPUs", "{}"),
        "nics_per_node": ("network cards per node", "{}"),
        "nic_gbps": ("one card", "{} Gb/s"),
        "node_injection_gbps": ("a node into the network", "{} Gb/s"),
        "fabric": ("network", "{}"),
        "topology": ("topology", "{}"),
    },
    "Jobs": {
        "default_partition": ("partition by default", "{}"),
        "account_required": ("account required", "{}"),
        "qos_required": ("QOS required", "{}"),
        "billing": ("billing", "{}"),
        "billing_gpus_per_node": ("GPUs billed per node", "{}"),
        "rendezvous_note": ("rendezvous", "{}"),
        "cpu_bind": ("binding", "{}"),
    },
    "Software": {
        "container_runtime": ("containers", "{}"),
        "container_images": ("images", "{}"),
        "modules": ("modules", "{}"),
    },
    "Daily life": {
        "quota_cmd": ("quota", "{}"),
        "budget_cmd": ("budget", "{}"),
        "monitoring": ("watching a job", "{}"),
        "measured": ("measured", "{}"),
    },
}


def overview(sites: list[Site]) -> Table:
    """One line for each machine; "?" is what is not known."""
    rows = []
    for site in sites:
        hours = [row.max_walltime_h for row in site.partitions if not row.on_request]
        nodes = [row.max_nodes_per_job for row in site.partitions if not row.on_request]
        rows.append(
            [
                site.id,
                _or_unknown(site.gpus_per_node_slurm),
                (site.gpu_model or "?").partition(" ")[0] if not site.planned() else "(planned)",
                _or_unknown(site.gpu_mem_gb),
                _or_unknown(site.request.cores_per_gpu if site.request else None),
                _most(nodes),
                _most(hours),
            ]
        )
    return Table(["site", "GPUs/node", "GPU", "GB", "cores/GPU", "most nodes", "most hours"], rows)


def facts(site: Site) -> dict[str, list[tuple[str, str, str]]]:
    """Group → (name, value, source) of each fact that is known."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for group, keys in FACTS.items():
        rows = [
            (words, form.format(in_words(getattr(site, key))), site.source(key))
            for key, (words, form) in keys.items()
            if getattr(site, key) not in (None, [])
        ]
        if rows:
            found[group] = rows
    return found


def unknown(site: Site) -> list[str]:
    """Names of the facts that nobody has found."""
    names = [
        words
        for keys in FACTS.values()
        for key, (words, _) in keys.items()
        if getattr(site, key) in (None, [])
    ]
    more = {"partitions": site.partitions, "storage": site.storage, "how a job asks for GPUs": site.request}
    return names + [name for name, value in more.items() if not value]


def limits(rows: list[Partition]) -> Table:
    """What partitions allow."""
    return Table(
        ["partition", "QOS", "nodes of a job", "hours", "remarks"],
        [
            [
                row.partition,
                row.qos or "-",
                f"{row.min_nodes or 1} to {_or_unknown(row.max_nodes_per_job)}",
                hours(row.max_walltime_h),
                "; ".join(
                    part
                    for part in (
                        row.note,
                        row.whole_nodes and "whole nodes",
                        row.on_request and "not for every job",
                    )
                    if part
                ),
            ]
            for row in rows
        ],
    )


def as_text(site: Site) -> str:
    """The whole profile for a terminal."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    state = f"{site.status}: {site.status_note}" if site.status_note else site.status
    lines = [f"{site.name} ({state})"]
    for group, rows in facts(site).items():
        lines += ["", group]
        for name, value, source in rows:
            lines += textwrap.wrap(f"{name}: {value}", width, initial_indent="  ", subsequent_indent="      ")
            lines += textwrap.wrap(
                f"[{_source(source)}]", width, initial_indent="      ", subsequent_indent="      "
            )
    if site.partitions:
        lines += ["", f"Limits [{_source(site.source('partitions'))}]"]
        lines += [f"  {line}" for line in str(limits(site.partitions)).splitlines()]
    if site.traps:
        lines += ["", "Traps"]
        for trap in site.traps:
            lines += textwrap.wrap(
                f"! {trap.text} [{_source(trap.source)}]", width, subsequent_indent="      "
            )
    missing = unknown(site)
    if missing:
        lines += ["", *textwrap.wrap(f"Not known: {', '.join(missing)}.", width, subsequent_indent="  ")]
    return "\n".join(lines)


def in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:,.10g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def hours(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:g}" if value >= 0.1 else f"{value * 60:.0f} min"


def _source(source: str) -> str:
    return source if not source.startswith("unverified") else source.replace("unverified", "UNVERIFIED", 1)


def _or_unknown(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"


def _most(values: list[Any]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):g}" if known and len(known) == len(values) else f"{max(known):g}+" if known else "?"
