"""`aboard cluster`: a supercomputer to practise on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aboard.cluster import Cluster

app = typer.Typer(
    no_args_is_help=True, help="A miniature supercomputer on this machine: a real Slurm of several nodes."
)

NodeArgument = Annotated[str, typer.Argument(help="Name of a node, such as n3.")]


@app.command()
def up(
    site: Annotated[
        str | None, typer.Option("--site", help="Like this site: its partitions, limits, refusals.")
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", help="How many nodes.")] = 4,
    link_rate: Annotated[
        str, typer.Option("--link-rate", help="Of each node's link, such as 10mbit.")
    ] = "1gbit",
) -> None:
    """Build a cluster; it stays until `down`."""
    import time

    from aboard.cluster import Cluster

    start = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("building") as status:
            cluster = Cluster.up(nodes, site, link_rate, on_step=lambda step: status.update(step))
    else:
        cluster = Cluster.up(nodes, site, link_rate)
    shape = cluster.shape
    like = f", like {shape.title}" if shape.site else ""
    print(f"{shape.nodes} node{'s' * (shape.nodes > 1)} up in {time.monotonic() - start:.1f} s{like}.")
    print(
        f"Each has {shape.cores} cores and {shape.gpus} GPUs in Slurm's books, and a link of {shape.rate}it/s.".replace(
            "bitit", "bit"
        )
    )
    _say_what_is_lost(cluster)
    for sentence in shape.left_out:
        print(f"Not like the real one: {sentence}.")
    print("Go on with `aboard cluster shell`, or `aboard cluster exec sinfo`.")


@app.command()
def status(json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """Nodes, links and jobs."""
    import dataclasses
    import json as _json

    from aboard.cluster import Cluster, records

    cluster = Cluster.find()
    nodes, jobs, links = records.nodes(cluster), records.jobs(cluster), cluster.links()
    if json:
        known = [dataclasses.asdict(job) | {"output": str(job.output)} for job in jobs]
        rows = [dict(zip(nodes.columns, row, strict=True)) for row in nodes.rows]
        print(
            _json.dumps(
                {"name": cluster.name, "site": cluster.shape.site, "nodes": rows, "jobs": known, **links},
                indent=1,
            )
        )
        return
    print(f"{cluster}\n")
    _say_what_is_lost(cluster)
    print(f"{nodes}\n")
    print(records.job_table(jobs) if jobs else "No jobs yet.")
    if links["dead"]:
        print(f"\nThese have ended: {', '.join(links['dead'])}; see {cluster.folder}.")


@app.command()
def shell(on: Annotated[str, typer.Option("--on", help="login, or a node.")] = "login") -> None:
    """A shell on the login node."""
    from aboard.cluster import Cluster

    cluster = Cluster.find()
    title = cluster.shape.site or "mini"
    # The cluster's folder cannot be seen from inside it: what the shell reads first is handed over open.
    rc = os.memfd_create("bashrc", 0)
    os.write(rc, f"[ -f ~/.bashrc ] && . ~/.bashrc\nPS1='[{title} \\h \\W]\\$ '\n".encode())
    os.lseek(rc, 0, os.SEEK_SET)
    _become(cluster.command(["bash", "--rcfile", f"/proc/self/fd/{rc}", "-i"], on))


@app.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    command: Annotated[list[str], typer.Argument(help="What to run, such as: sbatch job.sh")],
    on: Annotated[str, typer.Option("--on", help="login, or a node.")] = "login",
) -> None:
    """Run one command there, in this folder."""
    from aboard.cluster import Cluster

    _become(Cluster.find().command(command, on))


@app.command()
def down() -> None:
    """End the cluster and everything that runs in it."""
    from aboard.cluster.outside import take_down

    print("The cluster is down; nothing of it is left." if take_down() else "No cluster stands here.")


@app.command()
def cut(node: NodeArgument) -> None:
    """Pull a node's cable."""
    from aboard.cluster import Cluster

    Cluster.find().cut(node)
    print(f"{node} is cut off. Slurm notices within half a minute; `aboard cluster heal {node}` mends it.")


@app.command()
def slow(node: NodeArgument, rate: Annotated[str, typer.Argument(help="Such as 10mbit.")]) -> None:
    """Limit a node's link."""
    from aboard.cluster import Cluster

    Cluster.find().slow(node, rate)
    print(f"{node} sends and receives at {rate} now; `aboard cluster heal {node}` mends it.")


@app.command()
def drain(
    node: NodeArgument,
    reason: Annotated[str, typer.Option("--reason", help="Shown by sinfo -R.")] = "maintenance",
) -> None:
    """Let nothing new start on a node."""
    from aboard.cluster import Cluster

    Cluster.find().drain(node, reason)
    print(f"{node} takes no new jobs; `aboard cluster heal {node}` gives it back.")


@app.command()
def heal(node: NodeArgument) -> None:
    """Undo what was done to a node."""
    from aboard.cluster import Cluster

    Cluster.find().heal(node)
    print(f"{node} is as it was.")


def _say_what_is_lost(cluster: Cluster) -> None:
    if cluster.means == "ports":
        from aboard.cluster import means

        print(
            f"Here all nodes share this machine's address: {means.why_not(means.own()) or 'it was asked for'}. "
            "Jobs, arrays and srun work; host names, links, cut and slow do not."
        )


def _become(command: list[str]) -> None:
    sys.stdout.flush()
    os.execvp(command[0], command)
