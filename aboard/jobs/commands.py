"""`aboard job` and `aboard translate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def job(
    file: Annotated[Path | None, typer.Argument(help="Description of the job, a TOML file.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="The machine, such as leonardo.")] = None,
    script: Annotated[
        str | None, typer.Option("--script", help="The Python file that every rank runs.")
    ] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", help="How many nodes.")] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="For how long.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option("--gpus-per-node", help="[default: all]")] = None,
    account: Annotated[str | None, typer.Option("--account", help="The project that pays.")] = None,
    partition: Annotated[
        str | None, typer.Option("--partition", help="[default: the first that takes it]")
    ] = None,
    qos: Annotated[str | None, typer.Option("--qos", help="[default: the first that takes it]")] = None,
    container: Annotated[str | None, typer.Option("--container", help="Path of an image.")] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", help="Path of a virtual environment.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="A folder it reads; may be repeated.")
    ] = None,
    requeue: Annotated[
        bool | None, typer.Option("--requeue", help="Save and go on when time is over.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the script there [default: print it].")
    ] = None,
    example: Annotated[
        Path | None, typer.Option("--example", help="Write a complete small job into this folder, and end.")
    ] = None,
) -> None:
    """A job script for a machine, from one description that fits all: each line says why it is there."""
    from aboard.errors import UserError

    if example is not None:
        _write_example(example)
        return
    if site is None:
        raise UserError("For which machine? Add --site; `aboard sites` lists them.")
    from aboard.jobs.description import read
    from aboard.jobs.render import render
    from aboard.sites.site import load

    described = read(
        file, script=script, nodes=nodes, hours=hours, gpus_per_node=gpus_per_node, account=account, partition=partition,
        qos=qos, container=container, environment=environment, data=data, requeue=requeue,
    )  # fmt: skip
    text = render(described, load(site))
    if out is None:
        print(text, end="")
        return
    _write(out, text)
    # A job starts in the folder that it was handed in from, and its script is named from there.
    folder = file.parent if file else Path(".")
    go = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    print(f"{out} is written; hand it in: {go}sbatch {os.path.relpath(out, folder)}")


def translate(
    file: Annotated[Path, typer.Argument(help="What you have from the cloud; - for standard input.")],
    site: Annotated[str | None, typer.Option("--site", help="Count nodes as on this machine.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the description there [default: print it].")
    ] = None,
) -> None:
    """A Kubernetes PyTorchJob or Job, a SageMaker or Vertex AI call, a docker run line: as a job description."""
    from aboard.errors import UserError
    from aboard.jobs.translate import translate as read
    from aboard.sites.site import load

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}.") from error
    found = read(text, load(site) if site else None)
    described = found.as_toml()
    if out is None:
        print(described, end="")
        return
    _write(out, described)
    print(f"{out} is written. Read its notes, then: aboard job {out} --site …")


def _write_example(folder: Path) -> None:
    from importlib import resources

    for name in ("train.py", "job.toml"):
        _write(
            folder / name,
            resources.files("aboard.jobs").joinpath("example", name).read_text(encoding="utf-8"),
        )
    print(f"{folder} holds train.py and job.toml; go on with `aboard job {folder}/job.toml --site …`.")


def _write(path: Path, text: str) -> None:
    from aboard.errors import UserError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{path} exists already; name another file, or remove it first.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}.") from error
