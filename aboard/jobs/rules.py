"""What a site would refuse, said before it does."""

from __future__ import annotations

import re

from aboard.errors import UserError
from aboard.jobs.description import Job
from aboard.sites.site import Partition, Site

THE_ACCOUNT = "<account>"  # a QOS that is called as the account is


def choose(job: Job, site: Site) -> Partition:
    """The first row of the site's limits that takes the job. Raises UserError with the site's reasons when none does."""
    reasons = refusals(job, site)
    if reasons:
        raise UserError(" ".join(reasons))
    return next(row for row in _rows(job, site) if _too_much(job, row) is None)


def refusals(job: Job, site: Site) -> list[str]:
    """What is wrong with this job on this site, a sentence each with the site's limit in it; empty when it is taken."""
    if site.planned() or not site.partitions or site.request is None:
        return [
            f"{site.name} takes no jobs: {site.status_note or site.status}; its partitions are not known."
        ]
    found = []
    request, gpus = site.request, site.gpus_per_node_slurm
    if site.account_required and not job.account:
        form = f" such as {request.account}" if request.account else ""
        found.append(
            f"{site.name} charges every job to an account; say account = … or --account,{form}.".replace(
                ",.", "."
            )
        )
    if job.account and request.account_pattern and not re.fullmatch(request.account_pattern, job.account):
        found.append(
            f"On {site.name} the account of a GPU job looks like {request.account}, not {job.account}."
        )
    if gpus is None:
        found.append(
            f"How many GPUs a node of {site.name} has is not known; ask the centre, and put it into its profile."
        )
    elif job.gpus_per_node and job.gpus_per_node > gpus:
        found.append(
            f"A node of {site.name} has {gpus} GPUs, not {job.gpus_per_node}; ask for more nodes instead."
        )
    if job.container and request.container is None:
        found.append(
            f"How containers run on {site.name} is not known; use environment = …, or ask the centre."
        )
    found += _no_row(job, site)
    return found


def _no_row(job: Job, site: Site) -> list[str]:
    rows = _rows(job, site)
    if not rows:
        if job.partition and job.partition not in {row.partition for row in site.partitions}:
            names = dict.fromkeys(row.partition for row in site.partitions)
            return [f"{site.name} has no partition {job.partition}; it has {', '.join(names)}."]
        known = [row.qos for row in site.partitions if row.qos and job.partition in (None, row.partition)]
        names = dict.fromkeys(name if name != THE_ACCOUNT else "the account's name" for name in known)
        if not names:
            return [f"{site.name} knows no QOS, so leave {job.qos} out."]
        return [f"{site.name} has no QOS {job.qos} for this; it has {', '.join(names)}."]
    reasons = [_too_much(job, row) for row in rows]
    if None in reasons:
        return []
    best = _nearest(job, rows)
    others = [
        row
        for row in site.partitions
        if not row.on_request and row not in rows and _too_much(job, row) is None
    ]
    hint = f" {named(others[0])} would take it." if others else ""
    requested = [
        row for row in site.partitions if row.on_request and row not in rows and _too_much(job, row) is None
    ]
    longer = [row for row in rows if (row.max_walltime_h or 0) >= job.hours and row.max_nodes_per_job]
    if not others and requested:
        hint = f" {named(requested[0])} would, which is given on request."
    elif not others and longer and _takes_nodes(job, best):
        hint = f" {named(longer[0])} allows {longer[0].max_walltime_h:g} hours, for up to {_count(longer[0].max_nodes_per_job or 0, 'node')}."
    return [f"{site.name}: {_too_much(job, best)}.{hint[:1] + hint[1:2].upper() + hint[2:]}"]


def _nearest(job: Job, rows: list[Partition]) -> Partition:
    """Of rows that all refuse the job, the one whose reason is worth knowing."""
    right_size = [row for row in rows if _takes_nodes(job, row)]
    if right_size:
        return max(right_size, key=lambda row: row.max_walltime_h or 0)
    too_small = [row for row in rows if row.max_nodes_per_job and job.nodes > row.max_nodes_per_job]
    return max(too_small or rows, key=lambda row: row.max_nodes_per_job or 0)


def _takes_nodes(job: Job, row: Partition) -> bool:
    return (row.min_nodes or 1) <= job.nodes <= (row.max_nodes_per_job or job.nodes)


def _rows(job: Job, site: Site) -> list[Partition]:
    """Rows that the job names, or all that are for everybody where it names none."""
    named = job.partition or job.qos
    return [
        row
        for row in site.partitions
        if job.partition in (None, row.partition)
        and (job.qos is None or job.qos == (job.account if row.qos == THE_ACCOUNT else row.qos))
        and (named or not row.on_request)
        and not (job.qos is None and row.on_request and row.qos)
    ]


def _too_much(job: Job, row: Partition) -> str | None:
    """What of the job this row does not allow; None when it takes it."""
    if row.max_nodes_per_job and job.nodes > row.max_nodes_per_job:
        return f"a job of {_count(job.nodes, 'node')} is too large for {named(row)}, which allows {row.max_nodes_per_job}"
    if row.min_nodes and job.nodes < row.min_nodes:
        return f"a job of {_count(job.nodes, 'node')} is too small for {named(row)}, which begins at {row.min_nodes}"
    if row.max_walltime_h and job.hours > row.max_walltime_h:
        return f"{job.hours:g} hours are too long for {named(row)}, which allows {row.max_walltime_h:g}"
    return None


def named(row: Partition) -> str:
    qos = "the account's QOS" if row.qos == THE_ACCOUNT else f"QOS {row.qos}"
    return f"partition {row.partition}" + (f" with {qos}" if row.qos else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
