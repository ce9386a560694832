"""The command of a container → the Python file that every rank runs, and its arguments."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass, field

LAUNCHERS = ("torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "horovodrun", "composer")
# What a job script sets itself, or what only the cloud's own rendezvous needs.
OF_THE_LAUNCHER = re.compile(
    r"(MASTER_(ADDR|PORT)|WORLD_SIZE|(LOCAL_|NODE_|GROUP_)?RANK|NNODES|PET_\w+|NPROC_PER_NODE|CUDA_VISIBLE_DEVICES|"
    r"ROCR_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|NVIDIA_DRIVER_CAPABILITIES|OMP_NUM_THREADS)"
)
# What names the cloud's network, which is another one here.
OF_THE_NETWORK = re.compile(
    r"((NCCL|GLOO|TP|UCX)_(SOCKET_IFNAME|NET_DEVICES)|NCCL_(IB|NET|CROSS_NIC|TOPO|TUNER|FASTRAK)(_\w+)?|FI_\w+)"
)


@dataclass
class Command:
    """script: absent when the command names no Python file. ranks, machines: what its launcher was told, where a number.
    env: variables that are set before it, or that its launcher sets."""

    script: str | None = None
    args: list[str] = field(default_factory=list)
    ranks: int | None = None
    machines: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def split(words: list[str]) -> Command:
    """What a command runs. `words`: the command and its arguments, one item each, as in a container's `command`."""
    found = Command()
    words = _in_a_shell(words, found)
    while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
        name, _, found.env[name] = words[0].partition("=")
        words = words[1:]
    launcher = _launcher(words)
    at = _script(words)
    if at is None:
        return found
    if words[at] == "-m":
        module = words[at + 1]
        found.script = module.replace(".", "/") + ".py"
        found.notes.append(
            f"-m {module} is written as the file {found.script}; its folder's parent has to be on PYTHONPATH."
        )
        found.args = words[at + 2 :]
    else:
        found.script, found.args = words[at], words[at + 1 :]
    options = words[:at]
    for option, value in itertools.pairwise(options):  # mpirun -x NAME=VALUE
        if option == "-x" and "=" in value:
            name, _, found.env[name] = value.partition("=")
    found.ranks = _number(options, "nproc", "num_processes", "num_gpus", "np")
    found.machines = _number(options, "nnodes", "num_machines", "num_nodes")
    if any(re.match(r"--?nnodes=?\d*:\d+", option) for option in _joined(options)):
        found.notes.append(
            "The number of nodes is a range (elastic): Slurm gives a fixed number, for all of the job."
        )
    if launcher in ("accelerate", "deepspeed", "composer"):
        found.notes.append(
            f"{launcher} is not started any more: the script is, on every rank. What its configuration said (precision, "
            "sharding) has to be said in the script, or in variables under [job.env]."
        )
    elif launcher:
        found.notes.append(f"{launcher} and its options are left out: the job script starts the ranks.")
    if found.ranks and launcher in ("mpirun", "mpiexec", "horovodrun"):
        found.ranks = None  # of all machines together; the GPUs say more
    if launcher == "horovodrun":
        found.notes.append("Horovod has no place here: use PyTorch's own DistributedDataParallel.")
    return found


def _in_a_shell(words: list[str], found: Command) -> list[str]:
    """The command inside `sh -c "…"`: the last of it that starts Python, with a note for each other part."""
    if len(words) < 3 or not re.search(r"(^|/)(ba|da|z)?sh$", words[0]) or "c" not in words[1].lstrip("-"):
        return words
    text = words[2].replace("\\\n", " ")
    parts = [part.strip() for part in re.split(r"&&|\|\||;|\n", text) if part.strip()]
    runs = [
        part for part in parts if re.search(r"\bpython|" + "|".join(LAUNCHERS), part) and not _installs(part)
    ]
    kept = runs[-1] if runs else ""
    for part in parts:
        if part == kept or part.startswith(("#", "set ")):
            continue
        if _installs(part):
            found.notes.append(
                f"`{_short(part)}` ran at the start: compute nodes mostly reach nothing outside, so do it once, on a login "
                "node, into the environment or the image."
            )
        else:
            found.notes.append(
                f"`{_short(part)}` ran before the training: do it once, before the job, or in the script."
            )
    try:
        return shlex.split(kept.removeprefix("exec "), comments=True)
    except ValueError:
        return kept.split()


def _installs(part: str) -> bool:
    return (
        re.match(
            r"(python\d?(\.\d+)? -m )?(uv )?(pip\d?|conda|mamba|apt(-get)?|poetry)\b.*\b(install|sync|add|update)\b",
            part,
        )
        is not None
    )


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= 60 else one_line[:57] + "…"


def _launcher(words: list[str]) -> str | None:
    for word in words[:12]:
        name = word.rpartition("/")[2]
        if name in LAUNCHERS:
            return name
        if word in ("torch.distributed.run", "torch.distributed.launch"):
            return "torchrun"
        if word.endswith(".py"):
            return None
    return None


def _script(words: list[str]) -> int | None:
    """Where the Python file stands, or the `-m` before a module that is no launcher."""
    for at, word in enumerate(words):
        if word.endswith(".py") and not word.startswith("-"):
            return at
        if word in ("-m", "--module") and at + 1 < len(words):
            if not words[at + 1].startswith(("torch.distributed.", "accelerate.", "deepspeed.")):
                words[at] = "-m"
                return at
    return None


def _number(options: list[str], *names: str) -> int | None:
    for option in _joined(options):
        name, _, value = option.lstrip("-").replace("-", "_").partition("=")
        if name.startswith(names) and value.isdigit():
            return int(value)
    return None


def _joined(options: list[str]) -> list[str]:
    """`--a b` as `--a=b`."""
    joined: list[str] = []
    for option in options:
        if joined and joined[-1].startswith("-") and "=" not in joined[-1] and not option.startswith("-"):
            joined[-1] += f"={option}"
        else:
            joined.append(option)
    return joined
