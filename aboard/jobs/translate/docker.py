"""A `docker run` line."""

from __future__ import annotations

import re
import shlex

from aboard.errors import UserError
from aboard.jobs.translate.cloud_job import CloudJob

_START = re.compile(
    r"^\s*(?:\$ |sudo |time |exec |\w+=\S+ )*(?:docker|podman|nvidia-docker)(?: container)? run\b",
    re.MULTILINE,
)
# Options that take no value; all others do.
_ALONE = {
    "detach", "interactive", "tty", "rm", "init", "privileged", "read-only", "no-healthcheck", "oom-kill-disable",
    "publish-all", "sig-proxy", "disable-content-trust", "help", "quiet",
}  # fmt: skip
_SHORT_ALONE = set("ditPq")


def is_one(text: str) -> bool:
    return _START.search(text) is not None


def read(text: str) -> CloudJob:
    """The first `docker run` of the text."""
    text = text.replace("\\\r\n", " ").replace("\\\n", " ")
    starts = list(_START.finditer(text))
    line = text[starts[0].end() :].split("\n", 1)[0]
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise UserError(
            f"The docker line cannot be split into words: {error}; is a quote left open?"
        ) from error
    cloud = CloudJob("a `docker run` line")
    if len(starts) > 1:
        cloud.note(f"There are {len(starts)} such lines; this is the first.")
    at, entrypoint = 0, ""
    while at < len(words) and words[at].startswith("-"):
        name, given, value = words[at].partition("=")
        at += 1
        if not name.startswith("--") and len(name) > 2 and not given:
            if set(name[1:]) <= _SHORT_ALONE:
                continue
            name, value, given = name[:2], name[2:], "="
        name = name.lstrip("-")
        if name in _ALONE or (len(name) == 1 and name in _SHORT_ALONE):
            continue
        if not given:
            if at == len(words):
                break
            value, at = words[at], at + 1
        if name == "entrypoint":
            entrypoint = value
        else:
            _option(cloud, name, value)
    if at == len(words):
        raise UserError("The docker line names no image: `docker run [options] IMAGE [command]`.")
    cloud.image = words[at]
    cloud.command = ([entrypoint] if entrypoint else []) + words[at + 1 :]
    return cloud


def _option(cloud: CloudJob, name: str, value: str) -> None:
    match name:
        case "gpus":
            devices = re.search(r"device=([\w,:-]+)", value.replace('"', ""))
            if value.isdigit():
                cloud.gpus = int(value)
            elif devices:
                cloud.gpus = len(devices[1].split(","))
        case "v" | "volume":
            source, _, rest = value.partition(":")
            _folder(cloud, source, rest.partition(":")[0] or source)
        case "mount":
            said = dict(part.partition("=")[::2] for part in value.split(","))
            target = said.get("target") or said.get("dst") or said.get("destination") or ""
            if said.get("type") == "tmpfs":
                cloud.note(f"{target} was in memory: use $TMPDIR, where the machine has one.")
            else:
                _folder(cloud, said.get("source") or said.get("src") or "", target)
        case "e" | "env":
            key, given, word = value.partition("=")
            if given:
                cloud.set_env(key, word)
            else:
                cloud.note(
                    f"{key} came from your own environment; sbatch takes that along, if it is set where you submit."
                )
        case "env-file":
            cloud.note(f"Variables came from the file {value}: put them under [job.env], without secrets.")
        case "name":
            cloud.name = value
        case "w" | "workdir":
            cloud.note(
                f"It began in {value} of the image; here it begins in the folder you submit in.", "script"
            )
        case "p" | "publish":
            cloud.note(
                f"Port {value}: nobody outside reaches a compute node. From your machine: an ssh tunnel through a login node."
            )
        case "shm-size" | "ipc" | "ulimit":
            cloud.note(
                f"--{name}: not needed. A job sees all of a node's /dev/shm, and its limits are the site's."
            )
        case "network" | "net":
            cloud.note("--network: not needed. A container here uses the node's own network.")
        case "u" | "user":
            cloud.note(
                "--user: containers here run as you, never as root. What needs root is done when the image is built."
            )
        case "restart":
            cloud.requeue = value != "no"
        case "device":
            cloud.note(
                f"--device {value}: left out. Slurm gives a job its GPUs, and the container's option shows them to it."
            )
        case "cpus" | "memory" | "m" | "cpuset-cpus":
            cloud.note(f"--{name} {value}: left out. Cores and memory go with the GPUs that you ask for.")
        case _:
            cloud.note(f"-{'-' * (len(name) > 1)}{name} {value}: left out.")


def _folder(cloud: CloudJob, source: str, target: str) -> None:
    if re.fullmatch(r"\$\{?PWD\}?|\$\(pwd\)|\.", source):
        cloud.note(f"{target} was the folder you started in; it is here, too, under its own name.", "script")
    elif source == "/dev/shm":
        return
    elif source.startswith(("/", "~", "$", ".")):
        cloud.data[target] = f"{source} of your machine"
    else:
        cloud.data[target] = f"the volume {source}"
