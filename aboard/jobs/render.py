"""Job and site → a job script as the site's documentation would have it, every line with its reason."""

from __future__ import annotations

import re
import shlex

from aboard.jobs.description import Job
from aboard.jobs.rules import THE_ACCOUNT, choose
from aboard.sites.site import Line, Partition, Request, Site

# Shell text that keeps one value for a rank from the shell that starts it: RANK and LOCAL_RANK differ from task to task.
PER_TASK = "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS"
OFFLINE = ("HF_HUB_OFFLINE=1", "WANDB_MODE=offline")


def render(job: Job, site: Site) -> str:
    """The script. Raises UserError with the site's reasons when the site would refuse the job."""
    row = choose(job, site)
    assert site.request is not None and site.gpus_per_node_slurm is not None
    gpus = job.gpus_per_node or site.gpus_per_node_slurm
    parts = [
        [
            site.request.shebang,
            f"# {_title(job, site)}",
            "# Each line says why it is there. Written by `aboard job`.",
        ],
        _header(job, site, row, gpus),
        ["# An error ends the job at once, and so does a variable that nobody set.", "set -euo pipefail"],
        _software(job, site.request),
        _settings(job, site.request, gpus),
        _meeting_point(site.request),
        _launch(job, site, gpus),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _title(job: Job, site: Site) -> str:
    return f"{job.script} on {job.nodes} node{'s' * (job.nodes > 1)} of {site.name}."


# --- what Slurm is asked for


def _header(job: Job, site: Site, row: Partition, gpus: int) -> list[str]:
    request = site.request
    assert request is not None
    lines: list[tuple[str, str]] = [(f"--job-name={job.name}", "what squeue shows")]
    if job.account:
        lines.append((f"--account={job.account}", "the project whose hours this uses"))
    if request.names_partition:
        limits = "" if row.qos else f": {_allowed(row)}"
        lines.append((f"--partition={row.partition}", f"the nodes with GPUs{limits}"))
    qos = job.account if row.qos == THE_ACCOUNT else row.qos
    if qos:
        lines.append((f"--qos={qos}", f"{_allowed(row)} in this quality of service"))
    lines.append((f"--nodes={job.nodes}", "whole boxes; ranks on different ones talk over the network"))
    lines += _gpus(request, job.nodes, gpus)
    tasks = 1 if request.launcher == "torchrun" else gpus
    who = (
        "one task per node: torchrun, which starts the ranks"
        if tasks == 1
        else "one task per GPU: a rank each"
    )
    lines.append((f"--ntasks-per-node={tasks}", who))
    cores = request.cores_per_gpu * gpus // tasks
    exact = ", no more and no fewer" if request.exact_cores else ""
    lines.append((f"--cpus-per-task={cores}", f"{request.cores_per_gpu} cores go with a GPU here{exact}"))
    if request.memory:
        lines.append(
            (f"--mem={_share(request.memory, gpus, site.gpus_per_node_slurm or gpus)}", "of each node")
        )
    lines.append((f"--time={_time(job.hours)}", "the job is ended after this; shorter jobs start sooner"))
    lines.append(("--output=%x-%j.out", "what it prints: name and number of the job"))
    lines += [(line.line, line.why) for line in _lines(request, "header")]
    if job.requeue:
        lines += [
            ("--requeue", "it may be put back into the queue, also when a node fails"),
            ("--open-mode=append", "and then goes on in the same output"),
            (
                f"--signal=B:USR1@{round(job.signal_minutes * 60)}",
                "so many seconds before its end, the shell below is told",
            ),
        ]
    return [text for option, why in lines for text in (f"# {why}", f"#SBATCH {option}")]


def _gpus(request: Request, nodes: int, gpus: int) -> list[tuple[str, str]]:
    if request.gpus == "gres":
        return [(f"--gres=gpu:{gpus}", "GPUs of each node")]
    if request.gpus == "gpus":
        return [(f"--gpus={gpus * nodes}", "GPUs of all nodes together: that is how they are asked for here")]
    if request.gpus == "gpus-per-task":
        return [("--gpus-per-task=1", "each task sees its own GPU")]
    return [(f"--gpus-per-node={gpus}", "GPUs of each node")]


def _allowed(row: Partition) -> str:
    nodes = f"up to {row.max_nodes_per_job} nodes" if row.max_nodes_per_job else "jobs"
    return f"{nodes} for {row.max_walltime_h:g} h" if row.max_walltime_h else nodes


def _share(memory: str, gpus: int, of: int) -> str:
    found = re.fullmatch(r"(\d+)([MG])", memory)
    return memory if gpus == of or not found else f"{int(found[1]) * gpus // of}{found[2]}"


def _time(hours: float) -> str:
    minutes = max(1, round(hours * 60))
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


# --- what the shell does


def _software(job: Job, request: Request) -> list[str]:
    lines = _reasoned([(line.line, line.why) for line in _lines(request, "setup")])
    if job.environment:
        lines += _reasoned(
            [
                (
                    f"source {shlex.quote(job.environment + '/bin/activate')}",
                    "Python and PyTorch as you installed them",
                )
            ]
        )
    return lines


def _settings(job: Job, request: Request, gpus: int) -> list[str]:
    lines = [(f"export {_assignment(line.line)}", line.why) for line in _lines(request, "env")]
    lines.append(
        (
            f"export OMP_NUM_THREADS={request.cores_per_gpu}",
            "a rank's share of the cores; PyTorch would take them all",
        )
    )
    lines.append(
        (
            "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
            "since Slurm 22.05, srun no longer takes it from the job",
        )
    )
    if request.offline:
        lines.append(
            (
                f"export {' '.join(OFFLINE)}",
                "compute nodes reach nothing outside: use what was brought here before",
            )
        )
    lines += [
        (f"export {name}={shlex.quote(value)}", "as the job's description says")
        for name, value in job.env.items()
    ]
    return _reasoned(lines)


def _assignment(text: str) -> str:
    name, _, value = text.partition("=")
    return (
        text
        if value.startswith(('"', "$(")) or re.fullmatch(r"[\w.,:^/-]*", value)
        else f"{name}={shlex.quote(value)}"
    )


def _meeting_point(request: Request) -> list[str]:
    lines = [
        "# Where the ranks meet: the first node of the job …",
        'read -r FIRST_HOST < <(scontrol show hostnames "$SLURM_JOB_NODELIST")',
    ]
    if request.rendezvous:
        lines += [
            "# … by the address it has on the fast network …",
            f"MASTER_ADDR=$({request.rendezvous} | awk 'NR == 1 {{ print $1 }}')",
            "export MASTER_ADDR",
        ]
    else:
        lines.append("export MASTER_ADDR=$FIRST_HOST")
    return [
        *lines,
        "# … and a port made of the job's number, so that two jobs on one node do not take the same.",
        "export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))",
    ]


def _launch(job: Job, site: Site, gpus: int) -> list[str]:
    request = site.request
    assert request is not None
    options = [line.line for line in _lines(request, "srun") if _fits(line, gpus, site)]
    inside: list[str] = []
    reasons = [
        f"{line.line.partition('=')[0]}: {line.why}."
        for line in _lines(request, "srun")
        if _fits(line, gpus, site)
    ]
    if job.container:
        options += [line.line for line in _lines(request, "container")]
        reasons += [f"{line.line.partition('=')[0]}: {line.why}." for line in _lines(request, "container")]
        assert request.container is not None
        if request.container.startswith("--"):
            options.append(f"{request.container}={shlex.quote(job.container)}")
        else:
            folders = ['"$PWD"', *map(shlex.quote, job.data)]
            inside = [
                f'{request.container} --pwd "$PWD" {" ".join(f"--bind {folder}" for folder in folders)} {shlex.quote(job.container)}'
            ]
            reasons.append("--bind: a container sees only the folders that are named here.")
    arguments = shlex.join([job.script, *job.args])
    if request.launcher == "torchrun":
        rounds = [
            "torchrun",
            f'--nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node={gpus}',
            '--rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT"',
            arguments,
        ]
        reasons.insert(0, "torchrun runs once on every node, and starts a rank for each GPU.")
    else:
        rounds = [f"bash -c '{PER_TASK}; exec python \"$@\"' rank {arguments}"]
        reasons.insert(
            0, "RANK and the like are set inside srun's tasks: outside, all ranks would get the same."
        )
    command = " \\\n    ".join(["srun" + (" " + " ".join(options) if options else ""), *inside, *rounds])
    comments = [f"# {reason}" for reason in reasons]
    if not job.requeue:
        return [*comments, command]
    return [
        "# Slurm tells this shell, and nobody else, that time is running out. It tells the ranks, waits until they have saved",
        "# (torchrun gives them 30 seconds), and puts the job back into the queue. Not by `kill`: srun, told to end, kills them.",
        "again() {",
        "    trap '' USR1",
        '    scancel --signal=TERM "$SLURM_JOB_ID"',
        '    wait "$ranks" || true',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "    exit 0",
        "}",
        "trap again USR1",
        "",
        *comments,
        f"{command} &",
        "# A shell hears a signal only between two commands, or in `wait`.",
        "ranks=$!",
        'wait "$ranks"',
    ]


def _fits(line: Line, gpus: int, site: Site) -> bool:
    """A list of masks, one for each GPU of a node, is for whole nodes only."""
    return "mask_cpu" not in line.line or gpus == site.gpus_per_node_slurm


def _lines(request: Request, place: str) -> list[Line]:
    return [line for line in request.lines if line.place == place]


def _reasoned(lines: list[tuple[str, str]]) -> list[str]:
    return [text for line, why in lines for text in (f"# {why}", line)]
