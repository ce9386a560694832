"""At first login: what the machine's own Slurm says, beside what the profile says."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from aboard.errors import UserError
from aboard.sites.site import Site
from aboard.table import Table

NODES = ["sinfo", "--noheader", "-o", "%P|%l|%D|%c|%m|%G"]
PARTITIONS = ["scontrol", "show", "partition", "--oneliner"]
QOS = ["sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=name,maxwall,maxtres"]
CHECKLIST = """\
On {name}, at your first login, these say whether the profile is right:

  sinfo -o "%P %l %D %c %m %G"                      partitions, longest jobs, nodes, cores, memory, GPUs
  scontrol show partition                           largest jobs; whether nodes are given whole
  sacctmgr show qos format=name%24,maxwall,maxtres%40,maxtrespu%40,maxjobspu,priority
                                                    what each quality of service allows
  sacctmgr show assoc user=$USER format=account%30,qos%40
                                                    your accounts, and the QOS each may use
  nvidia-smi topo -m   (AMD: rocm-smi --showtopo)   in a job: how GPUs, cores and network cards are joined
  ibstat; ip -br a                                  in a job: network cards and what interfaces are called
  df -ih $HOME                                      how many files you may have
  curl -sI https://pytorch.org | head -n 1          in a job: whether anything outside can be reached

`aboard sites verify` asks the first three itself and compares."""

Verdict = Literal["agrees", "differs", "not asked"]


@dataclass(frozen=True)
class Answers:
    """What three commands printed; None for one that is not there or failed."""

    nodes: str | None
    partitions: str | None
    qos: str | None


@dataclass(frozen=True)
class Finding:
    """One fact, as the profile and as the machine has it."""

    fact: str
    profile: str
    machine: str
    verdict: Verdict


def ask() -> Answers:
    """Ask this machine's Slurm. Raises UserError where there is none."""
    if shutil.which("sinfo") is None:
        raise UserError(
            "No Slurm is found here; run this on a login node of the machine, or add --list for the commands."
        )
    answers = Answers(_printed(NODES), _printed(PARTITIONS), _printed(QOS))
    if answers == Answers(None, None, None):
        raise UserError(
            "Slurm's commands are here, and no Slurm answers them; run this on a login node of the machine, "
            "or add --list for the commands."
        )
    return answers


def _printed(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def compare(site: Site, answers: Answers) -> list[Finding]:
    """Every fact that both know, and those that only the profile has."""
    found: list[Finding] = []
    nodes, partitions, qos = _nodes(answers.nodes), _partitions(answers.partitions), _qos(answers.qos)
    for name in dict.fromkeys(row.partition for row in site.partitions):
        rows = [row for row in site.partitions if row.partition == name]
        there = nodes.get(name)
        if answers.nodes is None or there is None:
            absent: Verdict = (
                "not asked" if answers.nodes is None or any(row.on_request for row in rows) else "differs"
            )
            found.append(
                Finding(f"partition {name}", "there", "?" if answers.nodes is None else "not seen", absent)
            )
            continue
        plain = [row for row in rows if row.qos is None]
        if plain and plain[0].partition_nodes:
            found.append(_about(f"nodes of {name}", plain[0].partition_nodes, there.nodes, within=0.03))
        longest = [row.max_walltime_h for row in plain or rows]  # a QOS may allow more than its partition
        if None not in longest and there.hours is not None:
            found.append(_about(f"longest job of {name}, hours", max(h for h in longest if h), there.hours))
        if not all(row.on_request for row in rows):
            found.append(_about("GPUs of a node", site.gpus_per_node_slurm, there.gpus))
            found.append(_about("memory of a node, MB", site.slurm_mem_mb, there.memory_mb, within=0.03))
        largest = partitions.get(name)
        if plain and plain[0].max_nodes_per_job and largest:
            found.append(_about(f"largest job of {name}, nodes", plain[0].max_nodes_per_job, largest))
    for row in site.partitions:
        if row.qos and not row.qos.startswith("<"):
            label = f"QOS {row.qos}, hours"
            if answers.qos is None:
                found.append(Finding(label, f"{row.max_walltime_h or '?'}", "?", "not asked"))
            elif row.qos not in qos:
                found.append(
                    Finding(
                        label,
                        f"{row.max_walltime_h or '?'}",
                        "not seen",
                        "not asked" if row.on_request else "differs",
                    )
                )
            elif row.max_walltime_h and qos[row.qos] is not None:
                found.append(_about(label, row.max_walltime_h, qos[row.qos]))
    return list(dict.fromkeys(found))


def table(findings: list[Finding]) -> Table:
    return Table(
        ["fact", "profile", "machine", ""], [[f.fact, f.profile, f.machine, f.verdict] for f in findings]
    )


def _about(fact: str, profile: float | None, machine: float | None, within: float = 0.001) -> Finding:
    here, there = ("?" if value is None else f"{value:,.10g}" for value in (profile, machine))
    if profile is None or machine is None:
        return Finding(fact, here, there, "not asked")
    close = abs(profile - machine) <= within * max(profile, machine)
    return Finding(fact, here, there, "agrees" if close else "differs")


@dataclass(frozen=True)
class _Nodes:
    hours: float | None
    nodes: int
    memory_mb: int | None
    gpus: int | None


def _nodes(text: str | None) -> dict[str, _Nodes]:
    """Of `sinfo`: partition → what it says; kinds of nodes of one partition are added up, the largest kind described."""
    found: dict[str, tuple[int, _Nodes]] = {}
    for line in (text or "").splitlines():
        name, limit, count, _, memory, gres = (line.strip().split("|") + [""] * 6)[:6]
        if not count.isdigit():
            continue
        name, number = name.rstrip("*"), int(count)
        gpus = [int(n) for n in re.findall(r"gpu(?::[\w.-]+)?:(\d+)", gres)]
        amount = int(memory.rstrip("+")) if memory.rstrip("+").isdigit() else None
        here = _Nodes(_hours(limit), number, amount, sum(gpus) if gpus else None)
        most, known = found.get(name, (0, here))
        total = number + (known.nodes if most else 0)
        best = here if number > most else known
        found[name] = (max(most, number), _Nodes(best.hours, total, best.memory_mb, best.gpus))
    return {name: nodes for name, (_, nodes) in found.items()}


def _partitions(text: str | None) -> dict[str, int]:
    """Of `scontrol show partition`: partition → nodes of its largest job, where there is a limit."""
    found = {}
    for line in (text or "").splitlines():
        field = dict(re.findall(r"(\w+)=(\S+)", line))
        if field.get("MaxNodes", "").isdigit():
            found[field["PartitionName"]] = int(field["MaxNodes"])
    return found


def _qos(text: str | None) -> dict[str, float | None]:
    """Of `sacctmgr show qos`: name → hours of its longest job."""
    lines = [line.split("|") for line in (text or "").splitlines() if "|" in line]
    return {line[0]: _hours(line[1]) for line in lines}


def _hours(text: str) -> float | None:
    """Of a time as Slurm writes it: days-hours:minutes:seconds, from the right as far as needed."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return days * 24 + hours + minutes / 60 + seconds / 3600
