"""What a job of the cloud says, whatever wrote it, and its way to a description that fits every machine."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field

from pydantic import ValidationError

from aboard.errors import UserError
from aboard.jobs.description import Job
from aboard.jobs.translate.command import OF_THE_LAUNCHER, OF_THE_NETWORK, split
from aboard.sites.site import Site

HOURS = 24.0  # written where nothing says how long


@dataclass
class CloudJob:
    """A training as the cloud was told to run it.

    origin: what it was, in words. gpus: of one machine; absent when it takes what is there. gpu_gb: memory of each.
    command: of the container, one word an item. data: path the program reads → where it comes from.
    notes: (key of the description, or "", and what there is to know about it).
    """

    origin: str
    name: str | None = None
    image: str | None = None
    command: list[str] = field(default_factory=list)
    machines: int = 1
    gpus: int | None = None
    gpu: str | None = None
    gpu_gb: int | None = None
    hours: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    requeue: bool = False
    notes: list[tuple[str, str]] = field(default_factory=list)

    def note(self, text: str, key: str = "") -> None:
        if (key, text) not in self.notes:
            self.notes.append((key, text))

    def set_env(self, name: str, value: str) -> None:
        """A variable of the program's; what the job script sets itself is left out, and a secret is not written down."""
        if OF_THE_LAUNCHER.fullmatch(name):
            self.note(f"{name} is left out: the job script sets what the ranks need.")
        elif OF_THE_NETWORK.fullmatch(name):
            self.note(
                f"{name} is left out: it is about the cloud's network. The job script sets what this one needs."
            )
        elif re.search(r"(TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL)", name, re.IGNORECASE):
            self.note(
                f"{name} looks like a secret, and is not written down. Keep it in a file in your home that only you can read "
                "(chmod 600), and let the script read that."
            )
        elif re.fullmatch(r"[A-Za-z_]\w*", name):
            self.env[name] = value
        else:
            self.note(f"The variable {name!r} cannot be set in a shell, and is left out.")


@dataclass(frozen=True)
class Translation:
    """A description, and what to know about it: (key or "", sentence)."""

    origin: str
    job: Job
    notes: list[tuple[str, str]]

    def as_toml(self) -> str:
        """A file for `aboard job`, each note as a comment above the line it is about."""
        about: dict[str, list[str]] = {}
        for key, text in self.notes:
            about.setdefault(key, []).append(text)
        lines = [f"# From {self.origin}. Read the notes; then: aboard job FILE --site SITE"]
        for line in self.job.to_toml().splitlines():
            key = line.partition(" = ")[0] if " = " in line else ""
            for text in about.pop(key, []) if key else []:
                lines += _comment(text)
            lines.append(line)
        rest = [text for texts in about.values() for text in texts]
        if rest:
            lines += ["", "# What has no counterpart, or needs your hand:"]
            lines += [line for text in rest for line in _comment(text, "- ")]
        return "\n".join(lines) + "\n"


def described(cloud: CloudJob, site: Site | None) -> Translation:
    """The description of a cloud's job; nodes are counted as `site` has them, where one is given."""
    command = split(list(cloud.command))
    for text in command.notes:
        cloud.note(text)
    for name, value in command.env.items():
        cloud.set_env(name, value)
    if command.script is None:
        cloud.note(
            "Which Python file runs is not said (the image's own command, it seems); put yours.", "script"
        )
    machines = max(cloud.machines, command.machines or 1)
    gpus = cloud.gpus or command.ranks
    nodes, per_node = _nodes(cloud, site, machines, gpus)
    if cloud.hours is None:
        cloud.note(
            f"How long is said nowhere, and Slurm has to know; {HOURS:g} h is a guess. A job that runs on is ended.",
            "hours",
        )
    container = _container(cloud, site)
    data = list(cloud.data)
    for path in data:
        if path.startswith("/") and any(path in word for word in command.args):
            cloud.note(
                f"{path} is what the program called it: write there, too, where you brought it.", "args"
            )
    for path, source in cloud.data.items():
        cloud.note(
            f"{path} came from {source}: bring it to the machine once, before the job, and write its path here.",
            "data",
        )
    try:
        job = Job(
            name=_one_word(cloud.name), script=command.script or "train.py", args=command.args, nodes=nodes,
            hours=round(cloud.hours or HOURS, 2) or 0.1, gpus_per_node=per_node, container=container, data=data,
            requeue=cloud.requeue, env=cloud.env, environment=None, account=None, partition=None, qos=None, signal_minutes=3,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{cloud.origin[0].upper()}{cloud.origin[1:]} says {first['input']!r} for {key}: {first['msg']}."
        ) from error
    if job.requeue and not any(key == "requeue" for key, _ in cloud.notes):
        cloud.note(
            "It was started again when it failed. Here it is put back into the queue: it has to save a checkpoint when told, "
            "and to begin from it.",
            "requeue",
        )
    return Translation(cloud.origin, job, cloud.notes)


def _nodes(cloud: CloudJob, site: Site | None, machines: int, gpus: int | None) -> tuple[int, int | None]:
    """Nodes, and GPUs of each; the latter absent for whole nodes."""
    had = f"{machines} machine{'s' * (machines != 1)}"
    if gpus:
        had += f" with {gpus} {cloud.gpu or 'GPU'}{'s' * (gpus != 1)}{' each' * (machines > 1)}"
    if gpus is None:
        cloud.note(f"It had {had}; how many GPUs in each is not said. All of a node's are taken.", "nodes")
        return machines, None
    total = machines * gpus
    if site is None or not site.gpus_per_node_slurm:
        cloud.note(
            f"It had {had}: {total} in all. With --site, nodes are counted as that machine has them.", "nodes"
        )
        return machines, gpus
    size = site.gpus_per_node_slurm
    _memory(cloud, site)
    if total <= size:
        cloud.note(f"It had {had}. A node of {site.name} has {size}: one is enough.", "nodes")
        return 1, None if total == size else total
    nodes = -(-total // size)
    if total % size == 0:
        cloud.note(
            f"It had {had}: {total} in all. {nodes} nodes of {site.name}, with {size} each, are as many.",
            "nodes",
        )
        return nodes, None
    if total % nodes == 0 and not any(row.whole_nodes for row in site.partitions):
        cloud.note(
            f"It had {had}: {total} in all, which is {total // nodes} on each of {nodes} nodes of {site.name}.",
            "nodes",
        )
        return nodes, total // nodes
    cloud.note(
        f"It had {had}: {total} in all, which is no whole number of nodes of {site.name} ({size} each); these are "
        f"{nodes * size}. A global batch of rows per rank × ranks changes with it.",
        "nodes",
    )
    return nodes, None


def _memory(cloud: CloudJob, site: Site) -> None:
    if cloud.gpu_gb and site.gpu_mem_gb and site.gpu_mem_gb < cloud.gpu_gb:
        cloud.note(
            f"A GPU of {site.name} has {site.gpu_mem_gb:g} GB, not {cloud.gpu_gb} as the {cloud.gpu}: what just fitted there "
            "does not fit here.",
            "nodes",
        )
    if site.gpu_vendor == "AMD":
        unit = f" A GPU, to its Slurm: {site.gpu_unit_note}." if site.gpu_unit_note else ""
        cloud.note(
            f"The GPUs of {site.name} are AMD's: PyTorch for ROCm, no CUDA extensions of your own.{unit}",
            "nodes",
        )


def _container(cloud: CloudJob, site: Site | None) -> str | None:
    if cloud.image is None:
        cloud.note(
            'No image is named: say container = "…" or environment = "…", or use the machine\'s own modules.'
        )
        return None
    base = (
        re.sub(r"[^\w.-]+", "-", re.sub(r"@sha256:", "-", cloud.image).rpartition("/")[2]).strip("-.")
        or "image"
    )
    cloud.note(
        f"The image {cloud.image} is brought once, from a node that reaches the registry, and made one file:"
        f"\nsingularity pull {base}.sif docker://{cloud.image}",
        "container",
    )
    if re.search(r"\.ecr\.|\.azurecr\.io|gcr\.io|pkg\.dev", cloud.image):
        cloud.note(
            "That registry asks who you are: log in with its own command before you pull.", "container"
        )
    cloud.note(
        "Your code was in the image, perhaps: paths here are those of the machine, from the folder you submit in.",
        "script",
    )
    if site is not None and site.request is not None and site.request.container is None:
        cloud.note(
            f"How containers run on {site.name} is not known here; an environment of your own may be the way.",
            "container",
        )
    if site is not None and site.gpu_vendor == "AMD":
        cloud.note(
            f"An image for CUDA does not run on {site.name}: take one that was built for ROCm.", "container"
        )
    if site is not None and site.arch == "aarch64":
        cloud.note(
            f"The processors of {site.name} are Arm (aarch64): the image has to be built for that, too.",
            "container",
        )
    return f"{base}.sif"


def _one_word(name: str | None) -> str:
    return re.sub(r"[^\w.@:+-]+", "-", name or "").strip("-") or "train"


def _comment(text: str, mark: str = "") -> list[str]:
    """A note as lines of comment. A command in it, on a line of its own, stays whole."""
    sentence, *commands = ("".join(c if c.isprintable() else " " for c in line) for line in text.split("\n"))
    indent = " " * len(mark)
    lines = textwrap.wrap(
        sentence, 88, initial_indent=f"# {mark}", subsequent_indent=f"# {indent}", break_long_words=False, break_on_hyphens=False
    )  # fmt: skip
    return lines + [f"#     {indent}{command}" for command in commands]
