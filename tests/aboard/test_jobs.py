"""One description of a job: what each machine would refuse, what script it gets, and that the script trains there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aboard.cluster import Cluster, means, records
from aboard.errors import UserError
from aboard.jobs.description import Job, read
from aboard.jobs.render import render
from aboard.jobs.rules import refusals
from aboard.sites.site import load, names

MACHINES = [name for name in names() if not load(name).planned()]
slurm = pytest.mark.skipif(
    bool(means.missing(means.SLURM)), reason="Slurm is not installed: sudo apt-get install slurm-wlm munge"
)


def job_for(site: str, **said) -> Job:
    """A job that the site takes: two nodes for half an hour, with an account where one is asked for."""
    request = load(site).request
    return Job(**{"script": "train.py", "nodes": 2, "hours": 0.5, "account": request.account, **said})


def said_by(site: str, **said) -> str:
    return " ".join(refusals(job_for(site, **said), load(site)))


def aboard(*words, **how) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aboard.cli", *map(str, words)], capture_output=True, text=True, **how
    )


# --- what a machine would refuse is refused before, with its limit in the sentence


@pytest.mark.parametrize(
    ("site", "said", "sentence"),
    [
        ("leonardo", dict(account=None), "Leonardo Booster charges every job to an account; say account = … or --account"),
        ("leonardo", dict(nodes=257), "too large for partition boost_usr_prod with QOS boost_qos_bprod, which allows 256"),
        ("leonardo", dict(hours=97), "97 hours are too long for partition boost_usr_prod with QOS boost_qos_lprod, which allows 96"),
        ("leonardo", dict(nodes=9, hours=30), "30 hours are too long for partition boost_usr_prod, which allows 24. Partition boost_usr_prod with QOS boost_qos_lprod allows 96 hours, for up to 8 nodes."),
        ("leonardo", dict(gpus_per_node=8), "A node of Leonardo Booster has 4 GPUs, not 8"),
        ("leonardo", dict(partition="gpu"), "has no partition gpu; it has boost_usr_prod"),
        ("leonardo", dict(qos="long"), "has no QOS long for this; it has boost_qos_bprod, boost_qos_dbg, boost_qos_lprod"),
        ("leonardo", dict(qos="boost_qos_dbg", nodes=3), "too large for partition boost_usr_prod with QOS boost_qos_dbg, which allows 2"),
        ("leonardo", dict(qos="boost_qos_bprod"), "too small for partition boost_usr_prod with QOS boost_qos_bprod, which begins at 65"),
        ("lumi", dict(hours=73), "73 hours are too long for partition small-g, which allows 72"),
        ("marenostrum5", dict(nodes=101), "which allows 100"),
        ("marenostrum5", dict(hours=73), "which allows 72"),
        ("alice-recoque", {}, "takes no jobs"),
    ],
)  # fmt: skip
def test_a_job_too_much_is_refused_with_the_limit(site, said, sentence):
    if load(site).planned():
        reasons = refusals(Job(script="t.py", hours=1), load(site))
    else:
        reasons = refusals(job_for(site, **said), load(site))
    assert sentence in " ".join(reasons)


@pytest.mark.parametrize("site", MACHINES)
def test_every_limit_of_every_machine_is_kept_to_the_last_node_and_hour(site):
    """A job at the limit is taken, and one more node, or a quarter of an hour, is not."""
    for row in load(site).partitions:
        if row.on_request:
            continue
        account = load(site).request.account
        where = {"partition": row.partition, "qos": account if row.qos == "<account>" else row.qos}
        if (
            sum(
                1
                for other in load(site).partitions
                if (other.partition, other.qos) == (row.partition, row.qos)
            )
            > 1
        ):
            continue
        fitting = {
            "nodes": row.max_nodes_per_job or row.min_nodes or 1,
            "hours": row.max_walltime_h or 1,
            **where,
        }
        if row.qos is None:
            others = [o for o in load(site).partitions if o.partition == row.partition and o is not row]
            fitting.pop("qos")
            if any(o.max_nodes_per_job is None or o.max_nodes_per_job > fitting["nodes"] for o in others):
                continue
        assert said_by(site, **fitting) == ""
        if row.max_nodes_per_job:
            assert str(row.max_nodes_per_job) in said_by(
                site, **{**fitting, "nodes": row.max_nodes_per_job + 1}
            )
        if row.max_walltime_h and row.qos:
            assert f"{row.max_walltime_h:g}" in said_by(
                site, **{**fitting, "hours": row.max_walltime_h + 0.25}
            )


def test_a_partition_given_on_request_is_used_by_those_who_name_it():
    assert said_by("leonardo", nodes=1, partition="lrd_all_serial") == ""
    assert "given on request" in said_by("leonardo", nodes=3000) or "allows 256" in said_by(
        "leonardo", nodes=3000
    )


# --- what is wrong in a description


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[job]\nhours = 1\n", "the job says no script; add script = … or --script"),
        ("[job]\nscript = 't.py'\n", "the job says no hours"),
        ("[job]\nscript = 't.py'\nhours = 1\nnode = 2\n", "a job has no node; it can say name, script"),
        ("[job]\nscript = 't.py'\nhours = 0\n", "hours of the job: Input should be greater than 0"),
        (
            "[job]\nscript = 't.py'\nhours = 1\nname = 'two words'\n",
            "name of the job: 'two words' has to be one word",
        ),
        ("[job]\nscript = 't.py'\nhours = 1\nenv = { 'A B' = '1' }\n", "'A B' is no name of a variable"),
        ("script = 't.py'\n", "describes no job: all of it stands in one table, [job]; it has script"),
        ("[job\n", "cannot be read as TOML"),
    ],
)
def test_a_wrong_description_gets_one_sentence(text, sentence, tmp_path):
    (tmp_path / "job.toml").write_text(text)
    with pytest.raises(UserError) as error:
        read(tmp_path / "job.toml")
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_what_is_said_on_the_command_line_comes_before_the_file(tmp_path):
    (tmp_path / "job.toml").write_text("[job]\nscript = 't.py'\nhours = 1\nnodes = 3\n")
    assert read(tmp_path / "job.toml", nodes=5, hours=None) == Job(script="t.py", hours=1, nodes=5)


def test_the_command_writes_a_job_and_never_over_a_file(tmp_path):
    assert aboard("job", "--example", tmp_path / "it").returncode == 0
    options = [
        "job",
        tmp_path / "it" / "job.toml",
        "--site",
        "lumi",
        "--account",
        "project_1",
        "--out",
        tmp_path / "lumi.sh",
    ]
    first, second = aboard(*options), aboard(*options)
    assert first.returncode == 0 and "sbatch" in first.stdout
    assert second.returncode == 2 and "exists already" in second.stderr
    assert (tmp_path / "lumi.sh").read_text().startswith("#!/bin/bash\n")
    without = aboard("job", tmp_path / "it" / "job.toml", "--site", "lumi")
    assert (
        without.returncode == 2
        and without.stderr.count("\n") == 1
        and "charges every job to an account" in without.stderr
    )
    assert "For which machine?" in aboard("job", tmp_path / "it" / "job.toml").stderr


# --- the script


def options(script: str) -> dict[str, str]:
    return {name: value for name, value in re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE)}


@pytest.mark.parametrize("site", MACHINES)
def test_every_line_says_why_it_is_there(site):
    lines = render(job_for(site, requeue=True, env={"A": "1"}, container=None), load(site)).splitlines()
    for above, line in zip(lines, lines[1:], strict=False):
        if line.startswith(("#SBATCH", "export ", "module ", "source ")) and "MASTER_ADDR" not in line:
            assert above.startswith("# ") and len(above) > 3, line


@pytest.mark.parametrize("site", MACHINES)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"requeue": True},
        {"container": "my image.sif", "data": ["/my data"]},
        {"environment": "/opt/an env"},
    ],
)
def test_bash_reads_every_script(site, how):
    if how.get("container") and load(site).request.container is None:
        assert "How containers run" in said_by(site, **how)
        return
    script = render(
        job_for(site, args=["--note", "it's two words", "$HOME"], env={"B": "a b'c"}, **how), load(site)
    )
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_machines_are_asked_in_their_own_ways():
    lumi = render(job_for("lumi"), load("lumi"))
    assert (
        "--cpu-bind=mask_cpu:" in lumi
        and "=hsn0,hsn1,hsn2,hsn3" in lumi
        and options(lumi)["gpus-per-node"] == "8"
    )
    mare = options(render(job_for("marenostrum5"), load("marenostrum5")))
    assert mare["account"] and mare["qos"] == "acc_ehpc" and mare["cpus-per-task"] == "80"
    assert "HF_HUB_OFFLINE=1" in render(job_for("leonardo"), load("leonardo"))


def test_what_the_learner_writes_reaches_the_program_as_it_was(tmp_path):
    """Arguments and variables with spaces, quotes and dollars, through bash, as the ranks get them."""
    odd = ["it's", "two words", "$HOME", "`id`", 'a"b']
    script = render(
        Job(script="show.py", args=odd, hours=1, env={"ODD": "a 'b' $c"}, account="EUHPC_A01_001"),
        load("leonardo"),
    )
    (tmp_path / "show.py").write_text("")
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$ODD" "$@"\n')
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho n1\n")
    for tool in ("srun", "scontrol"):
        (tmp_path / tool).chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "8",
    }
    script = "module() { :; }\n" + script
    said = subprocess.run(
        ["bash"], input=script, text=True, capture_output=True, env=env, check=True
    ).stdout.splitlines()
    assert said[0] == "a 'b' $c" and said[-6:] == ["show.py", *odd]


# --- it is taken, and trains


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The folder of the example, and the loss it ends with on one process."""
    folder = tmp_path_factory.mktemp("example")
    assert aboard("job", "--example", folder).returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    said = subprocess.run(
        [sys.executable, "train.py", "--steps", "100", "--checkpoint", str(folder / "alone.pt")],
        cwd=folder, env={**os.environ, **alone}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return folder, loss(said.stdout)


def run_in(place: Path, example: Path) -> Path:
    """A folder of its own for one job, with the example's program."""
    (place / "train.py").write_bytes((example / "train.py").read_bytes())
    return place


def loss(text: str) -> str:
    found = re.findall(r"^final loss ([\d.]+)$", text, re.MULTILINE)
    assert len(found) == 1, text
    return found[0]


# Those whose scripts differ most; in the long form all.
TRAINED = MACHINES if os.environ.get("SOAK") else ["lumi", "leonardo", "marenostrum5", "jupiter", "alps"]


@pytest.fixture(scope="module", params=MACHINES)
def machine(request, tmp_path_factory):
    """Each machine in turn, as two nodes of it."""
    if means.missing(means.SLURM):
        pytest.skip("Slurm is not installed")
    with Cluster.up(2, site=request.param, folder=tmp_path_factory.mktemp("cluster") / "it") as found:
        yield found


def test_a_machine_shaped_as_the_site_takes_the_script(machine):
    site = machine.shape.site
    took = machine.ask("sbatch", "--test-only", text=render(job_for(site, requeue=True), load(site)))
    assert took.returncode == 0 and "to start at" in took.stderr, took.stderr


def test_the_example_trains_over_two_nodes_of_it(machine, example, tmp_path):
    folder, alone = example
    site = machine.shape.site
    if site not in TRAINED:
        pytest.skip("long form: SOAK=1")
    small = job_for(
        site, gpus_per_node=1, environment=sys.prefix, requeue=True,
        args=["--steps", "100", "--checkpoint", str(tmp_path / "checkpoint.pt")],
    )  # fmt: skip
    number = records.submit(machine, render(small, load(site)), cwd=run_in(tmp_path, folder))
    done = records.wait(machine, number, 120)
    said = done.output.read_text()
    assert (done.state, len(done.nodes)) == ("COMPLETED", 2), said
    assert "2 ranks, step 0 of 100" in said and loss(said) == alone


def test_what_is_refused_here_is_refused_by_the_machine_as_well(machine):
    """Each job is asked of both: of the rules, and of a Slurm shaped as the site. They say the same."""
    site = machine.shape.site
    for said in (
        {}, {"account": None}, {"hours": 24}, {"hours": 49}, {"hours": 200}, {"qos": "no_such_qos"}, {"nodes": 1}, {"hours": 0.25},
    ):  # fmt: skip
        job = job_for(site, **said)
        refused = refusals(job, load(site))
        script = with_lines(render(job_for(site), load(site)), job) if refused else render(job, load(site))
        took = machine.ask("sbatch", "--test-only", text=script)
        assert (took.returncode != 0) == bool(refused), (said, refused, took.stderr)


def with_lines(script: str, job: Job) -> str:
    """The script with this job's account, time and QOS, whether or not it may have them."""
    for name, value in (("account", job.account), ("time", f"{job.hours * 60:.0f}"), ("qos", job.qos)):
        if value or name == "account":
            script = re.sub(rf"^#SBATCH --{name}=.*\n", "", script, flags=re.MULTILINE)
        if value:
            script = script.replace("\n", f"\n#SBATCH --{name}={value}\n", 1)
    return script


def until(text: str, path: Path, seconds: float = 60) -> str:
    """What the file holds once `text` is in it."""
    deadline = time.monotonic() + seconds
    while True:
        said = path.read_text() if path.exists() else ""
        if text in said:
            return said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


@pytest.fixture(scope="module")
def leonardo(tmp_path_factory):
    if means.missing(means.SLURM):
        pytest.skip("Slurm is not installed")
    with Cluster.up(4, site="leonardo", folder=tmp_path_factory.mktemp("cluster") / "it") as found:
        yield found


def long_job(tmp_path, **said) -> str:
    job = job_for(
        "leonardo", gpus_per_node=1, environment=sys.prefix, requeue=True,
        args=["--steps", "100", "--pause", "0.1", "--checkpoint", str(tmp_path / "checkpoint.pt")], **said,
    )  # fmt: skip
    return render(job, load("leonardo"))


@slurm
def test_when_time_runs_out_it_saves_is_requeued_and_goes_on_to_the_same_loss(leonardo, example, tmp_path):
    """Slurm's own warning, 90 seconds before a limit of two minutes; it may come up to a minute early."""
    folder, alone = example
    script = long_job(tmp_path, hours=2 / 60, signal_minutes=1.5).replace("--pause 0.1", "--pause 0.7")
    number = records.submit(leonardo, script, cwd=run_in(tmp_path, folder))
    until("told to stop", records.job(leonardo, number).output, 120)
    while not records.job(leonardo, number).restarts:
        time.sleep(0.1)
    leonardo.run("scontrol", "update", f"jobid={number}", "timelimit=30")  # once is enough
    done = records.wait(leonardo, number, 240)
    said = done.output.read_text()
    # Told while Python was still starting, on a busy machine, it is requeued once more, with nothing to save.
    assert done.state == "COMPLETED" and done.restarts >= 1, said
    saved = re.findall(r"told to stop: saved after (\d+) steps", said)
    assert re.findall(r"2 ranks, step (\d+) of 100", said) == ["0", *saved] and 0 < int(saved[0]) < 100
    assert loss(said) == alone


@slurm
def test_a_node_cut_during_training_is_named_and_the_job_goes_on_elsewhere(leonardo, example, tmp_path):
    folder, alone = example
    number = records.submit(leonardo, long_job(tmp_path), cwd=run_in(tmp_path, folder))
    output = records.job(leonardo, number).output
    until("step 50", output)
    before = records.job(leonardo, number).nodes
    leonardo.cut(before[1])
    try:
        done = records.wait(leonardo, number, 150)
    finally:
        leonardo.heal(before[1])
    said = done.output.read_text()
    assert (done.state, done.restarts) == ("COMPLETED", 1), said
    assert before[1] not in done.nodes and len(done.nodes) == 2
    assert re.search(
        rf"NODE FAILURE|[Nn]ode failure.*{before[1]}|failed on node {before[1]}|{before[1]}.*not responding",
        said,
    ), said
    began = re.findall(r"2 ranks, step (\d+) of 100", said)
    assert began == ["0", "50"] and loss(said) == alone
