"""The miniature supercomputer, with a real Slurm: what it is, how it breaks, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from aboard.cluster import Cluster, means, outside, processes, records, shape
from aboard.cluster.patience import Patience
from aboard.errors import UserError
from aboard.sites.site import Site
from tests import ordinary_user

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    bool(means.missing(means.SLURM)), reason="Slurm is not installed: sudo apt-get install slurm-wlm munge"
)
STRICT = Site.model_validate(
    {
        "id": "strict",
        "name": "Strict",
        "status": "production",
        "gpu_vendor": "NVIDIA",
        "gpu_model": "H100 64 GB",
        "gpus_per_node_slurm": 4,
        "cpu_cores_per_node": 80,
        "host_mem_gb": 512,
        "account_required": True,
        "qos_required": True,
        "default_partition": "acc",
        "partitions": [
            {"partition": "acc", "qos": "normal_acc", "max_nodes_per_job": 2, "max_walltime_h": 72},
            {"partition": "acc", "qos": "large_acc", "min_nodes": 3, "max_nodes_per_job": 100, "max_walltime_h": 24},
            {"partition": "acc", "qos": "heroes", "on_request": True},
        ],
        "request": {
            "gpus": "gres",
            "cores_per_gpu": 20,
            "exact_cores": True,
            "memory_refused": True,
            "account": "ehpc123",
        },
        "sources": {},
    }
)  # fmt: skip


def of_cluster(name: str) -> list[int]:
    """Processes that carry the mark of the cluster `name`."""
    mark = f"{processes.MARK}={name}".encode()
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                found.append(int(entry))
        except OSError:
            pass
    return found


def gone(name: str) -> bool:
    """Whether no process of it is left; the kernel may take a moment to bury them."""
    deadline = time.monotonic() + 10
    while of_cluster(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster.up(4, link_rate="1gbit", folder=tmp_path_factory.mktemp("cluster") / "it") as found:
        yield found


def test_every_node_has_a_name_an_address_and_gpus_of_its_own(cluster):
    said = cluster.run("srun", "-N4", "--gres=gpu:4", "bash", "-c",
                       "echo $(hostname) $(ip -4 -br addr show hsn0 | awk '{print $3}') $CUDA_VISIBLE_DEVICES")  # fmt: skip
    assert sorted(said.split("\n")[:-1]) == [f"n{i} 10.78.0.{i + 1}/24 0,1,2,3" for i in (1, 2, 3, 4)]
    assert cluster.run("hostname").strip() == "login"
    assert cluster.run("getent", "hosts", "n3").split() == ["10.78.0.4", "n3"]
    assert cluster.run("hostname", on="n2").strip() == "n2"


def test_commands_run_in_the_folder_they_were_given_in_and_say_how_they_ended(cluster, tmp_path):
    assert cluster.run("pwd", cwd=tmp_path).strip() == str(tmp_path)
    assert cluster.ask("bash", "-c", "exit 7").returncode == 7
    with pytest.raises(UserError, match="no-such-file"):
        cluster.run("cat", "no-such-file")
    with pytest.raises(UserError, match="There is no node 'n5'; there are login, n1, n2, n3, n4"):
        cluster.run("hostname", on="n5")


def test_the_table_of_nodes_shows_what_is_taken(cluster, tmp_path):
    number = records.submit(
        cluster, "#!/bin/bash\n#SBATCH -w n2 -c 8 --gres=gpu:3\nsleep 100\n", cwd=tmp_path
    )
    while records.job(cluster, number).state != "RUNNING":
        time.sleep(0.05)
    rows = {row[0]: row[1:] for row in records.nodes(cluster).rows}
    cluster.run("scancel", str(number))
    assert rows["n2"] == ["mixed", "8/32", "3/4", "1gbit"] and rows["n3"][1:3] == ["0/32", "0/4"]
    records.wait(cluster, number)


def test_an_array_runs_and_slurm_has_a_record_of_each_job(cluster, tmp_path):
    script = tmp_path / "array.sh"
    script.write_text(
        "#!/bin/bash\n#SBATCH --array=0-2 --time=5\necho task $SLURM_ARRAY_TASK_ID\nmodule load nothing\n"
    )
    number = records.submit(cluster, script, cwd=tmp_path)
    records.wait(cluster, number)
    tasks = [j for j in records.jobs(cluster) if j.fields.get("ArrayJobId") == str(number)]
    for task in tasks:
        assert records.wait(cluster, task.id).state == "COMPLETED"
    texts = sorted(path.read_text() for path in tmp_path.glob("slurm-*.out"))
    assert texts == ["task 0\n", "task 1\n", "task 2\n"]


def test_a_job_that_fails_says_so_in_the_records(cluster, tmp_path):
    number = records.submit(cluster, "#!/bin/bash\n#SBATCH -J unlucky -N 2\nexit 3\n", cwd=tmp_path)
    job = records.wait(cluster, number)
    assert (job.state, job.exit_code, job.name, len(job.nodes), job.restarts) == (
        "FAILED",
        3,
        "unlucky",
        2,
        0,
    )
    table = records.job_table([job])
    assert "unlucky" in str(table) and "<td>FAILED</td>" in table._repr_html_()
    with pytest.raises(UserError, match="Invalid job id"):
        records.job(cluster, 999_999)


SENDER = """
import socket, sys, time
listener = socket.create_server(("0.0.0.0", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
received, start = 0, time.monotonic()
while data := connection.recv(1 << 20):
    received += len(data)
print(time.monotonic() - start)
"""


def seconds_to_send(cluster, size: int) -> float:
    """From n1 to n2, by the clock of who receives."""
    receiver = subprocess.Popen(
        cluster.command([sys.executable, "-u", "-c", SENDER], "n2", "/"), stdout=subprocess.PIPE, text=True
    )
    assert receiver.stdout is not None
    port = receiver.stdout.readline().strip()
    send = f"import socket; s = socket.create_connection(('n2', {port})); s.sendall(bytes({size}))"
    cluster.run(sys.executable, "-c", send, on="n1", cwd="/")
    seconds = float(receiver.stdout.readline())
    receiver.wait()
    return seconds


def test_links_have_the_rate_they_were_given_and_the_kernel_counts_them(cluster):
    size = 2_500_000  # 1 s at 20 Mbit/s, 20 ms at 1 Gbit/s
    before = cluster.links()["bytes"]
    fast = seconds_to_send(cluster, size)
    after = cluster.links()["bytes"]
    assert size < after["n1"][0] - before["n1"][0] < 1.1 * size
    assert size < after["n2"][1] - before["n2"][1] < 1.1 * size
    cluster.slow("n2", "20mbit")
    slow = seconds_to_send(cluster, size)
    cluster.heal("n2")
    assert 0.9 < slow and fast < slow / 5
    assert cluster.links()["rates"]["n2"] == "1gbit"


def test_a_node_that_is_cut_reaches_nobody_until_it_is_healed(cluster):
    reach = ["timeout", "5", "bash", "-c", "echo > /dev/tcp/n4/6818"]  # slurmd listens there
    assert cluster.ask(*reach, on="n3").returncode == 0
    cluster.cut("n3")
    assert cluster.links()["cut"] == ["n3"]
    assert cluster.ask(*reach, on="n3").returncode != 0
    cluster.heal("n3")
    assert cluster.ask(*reach, on="n3").returncode == 0


def test_a_drained_node_gets_no_jobs_until_it_is_healed(cluster):
    cluster.drain("n4", "new cooling")
    assert "new cooling" in cluster.run("sinfo", "-R")
    assert cluster.ask("srun", "-N4", "--immediate=2", "true").returncode != 0
    cluster.heal("n4")
    cluster.run("srun", "-N4", "true")


@pytest.mark.parametrize(
    ("do", "sentence"),
    [
        (lambda c: c.cut("n9"), "There is no node 'n9'; this cluster has n1, n2, n3, n4"),
        (lambda c: c.drain("x"), "There is no node 'x'"),
        (lambda c: c.slow("n1", "fast"), "'fast' is no rate of a link; write it as 10mbit or 1gbit"),
        (lambda c: c.slow("n1", "1kbit"), "from 10kbit"),
        (lambda c: Cluster.up(folder=c.folder), "stands already .4 nodes"),
    ],
)
def test_mistakes_get_one_sentence(cluster, do, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        do(cluster)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"nodes": 0}, "1 to 16 nodes, not 0"),
        ({"nodes": 17}, "1 to 16 nodes, not 17"),
        ({"link_rate": "lots"}, "no rate of a link"),
        ({"site": "atlantis"}, "There is no site 'atlantis'"),
    ],
)
def test_a_cluster_that_cannot_be_is_not_begun(tmp_path, asked, sentence):
    with pytest.raises(UserError, match=sentence):
        Cluster.up(**asked, folder=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_without_slurm_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(means, "SLURM", ("slurmctld", "slurmd-of-nobody"))
    with pytest.raises(UserError, match=r"slurmd-of-nobody not found.*apt-get install .*slurm-wlm munge"):
        Cluster.up(folder=tmp_path / "c")


# --- what a site refuses


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outside, "_plan", lambda nodes, site, rate: shape.like(STRICT, nodes, rate))
        made = Cluster.up(2, "strict", folder=tmp_path_factory.mktemp("strict") / "it")
    with made:
        yield made


def answer(cluster, *options: str) -> str:
    done = cluster.ask("sbatch", "--test-only", *options, "--wrap", "true")
    return "" if done.returncode == 0 else done.stderr


RIGHT = [
    "-A",
    "ehpc123",
    "--qos=normal_acc",
    "--gres=gpu:4",
    "--ntasks-per-node=1",
    "--cpus-per-task=80",
    "--time=72:00:00",
]


def test_a_site_takes_what_is_right(strict):
    assert answer(strict, *RIGHT) == ""
    assert answer(strict, *RIGHT, "--gres=gpu:2", "--cpus-per-task=40") == ""
    assert answer(strict, *RIGHT, "-N2", "--ntasks-per-node=4", "--cpus-per-task=20") == ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (RIGHT[2:], "it says no account to be charged; add --account=ehpc123."),
        (
            [*RIGHT[:2], *RIGHT[3:]],
            "a job names its quality of service; add --qos= with one of: normal_acc, large_acc.",
        ),
        ([*RIGHT, "--qos=gold"], "it has no QOS gold in partition acc; known there: normal_acc, large_acc."),
        ([*RIGHT, "-N3"], "it asks for 3 nodes, and acc with --qos=normal_acc allows 2 at most."),
        (
            [*RIGHT, "--qos=large_acc", "-N2"],
            "it asks for 2 nodes, and acc with --qos=large_acc is for 3 or more.",
        ),
        (
            [*RIGHT, "--time=73:00:00"],
            "it asks for 73:00:00, and acc with --qos=normal_acc allows 72:00:00 at most.",
        ),
        ([*RIGHT, "--gres=gpu:5"], "it asks for 5 GPUs per node, and a node has 4."),
        ([*RIGHT, "--mem=100G"], "memory comes with the cores here, so leave --mem out."),
        (
            [*RIGHT, "--cpus-per-task=16"],
            "every GPU comes with 20 cores, no more and no fewer, so ask for 80.",
        ),
        ([*RIGHT, "--qos=large_acc", "-N3", "--time=1:00:00"], "this miniature has 2 nodes of it"),
    ],
)
def test_a_site_says_why_it_refuses(strict, options, sentence):
    said = answer(strict, *options)
    assert sentence in said and "Strict refuses this job" in said


def test_a_site_that_is_not_known_is_not_imitated():
    planned = STRICT.model_copy(update={"status": "planned"})
    with pytest.raises(UserError, match="Strict cannot be imitated"):
        shape.like(planned, 2, "1gbit")
    without = STRICT.model_copy(update={"host_mem_gb": None})
    assert "the memory of a node is not known" in " ".join(shape.like(without, 2, "1gbit").left_out)


# --- training over several nodes

TRAIN = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
data = torch.randn(16, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(20):
    optimizer.zero_grad()
    model(data[rank::world]).sub(data[rank::world].sum(1, keepdim=True)).square().mean().backward()
    optimizer.step()
loss = model.module(data).sub(data.sum(1, keepdim=True)).square().mean()
if rank == 0:
    print(f"{world} ranks on {os.environ.get('SLURM_JOB_NUM_NODES')} nodes: {loss.item():.5f}")
dist.destroy_process_group()
"""
JOB = """\
#!/bin/bash
#SBATCH --nodes={nodes} --ntasks-per-node=1 --cpus-per-task=8 --gres=gpu:4 --time=10 --output=%j.out
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1
srun {python} -m torch.distributed.run --nnodes={nodes} --nproc-per-node=2 --rdzv-backend=c10d \\
    --rdzv-endpoint="$head:$((20000 + SLURM_JOB_ID % 10000))" --rdzv-id="$SLURM_JOB_ID" train.py
"""


def test_torchrun_trains_over_two_nodes_as_over_one(cluster, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    said = {}
    for nodes in (1, 2):
        job = JOB.format(nodes=nodes, python=sys.executable)
        done = records.wait(cluster, records.submit(cluster, job, cwd=tmp_path), 120)
        said[nodes] = done.output.read_text()
        assert done.state == "COMPLETED", said[nodes]
    losses = {nodes: re.search(r"(\d) ranks on (\d) nodes: ([\d.]+)", text) for nodes, text in said.items()}
    assert [losses[n].groups()[:2] for n in (1, 2)] == [("2", "1"), ("4", "2")]
    assert losses[1][3] == losses[2][3]


def test_a_node_lost_in_the_middle_of_a_job_requeues_it_on_others(cluster, tmp_path):
    job = "#!/bin/bash\n#SBATCH -N2 --requeue --open-mode=append --output=log --time=10\necho run $SLURM_RESTART_COUNT\n"
    job += 'if [ -z "$SLURM_RESTART_COUNT" ]; then srun sleep 300; else srun -N2 hostname; fi\n'
    number = records.submit(cluster, job, cwd=tmp_path)
    while records.job(cluster, number).state != "RUNNING":
        time.sleep(0.1)
    lost = records.job(cluster, number).nodes[0]
    cluster.cut(lost)
    try:
        done = records.wait(cluster, number, 150)
        assert (done.state, done.restarts) == ("COMPLETED", 1)
        assert lost not in done.nodes and len(done.nodes) == 2
        # What srun says of the lost node, if it lives long enough to say it, stands between the two runs.
        said = [line for line in (tmp_path / "log").read_text().splitlines() if not line.startswith("srun: ")]
        assert said[:2] == ["run", "run 1"] and sorted(said[2:]) == sorted(done.nodes)
    finally:
        cluster.heal(lost)
    cluster.run("srun", "-N4", "true")


# --- patience, on a machine that is busy

IDLE = "import time; time.sleep(60)"
BUSY = "while True: pass"


@pytest.mark.parametrize(
    ("programs", "least", "most"),
    [([IDLE], 0.5, 1.9), ([BUSY], 1.9, 9), ([BUSY, BUSY, BUSY], 1.9, 9), ([IDLE, BUSY], 1.9, 9)],
    ids=["a job that hangs", "one that computes", "three that share one core", "one of two computes"],
)
def test_patience_is_counted_in_the_time_in_which_nothing_of_the_cluster_wants_a_core(programs, least, most):
    """Half a second of patience: so long of waiting, or `MOST` times as long for who computes or would."""
    name, core = f"test-{os.getpid()}", min(os.sched_getaffinity(0))
    pinned = "import os; os.sched_setaffinity(0, [{}])\n{}"
    running = [
        subprocess.Popen([sys.executable, "-c", pinned.format(core, text)], env={**os.environ, processes.MARK: name})
        for text in programs
    ]  # fmt: skip
    try:
        time.sleep(0.5)  # until they have started
        began, patience = time.monotonic(), Patience(name, 0.5)
        while not patience.over():
            time.sleep(0.02)
        assert least < time.monotonic() - began < most
    finally:
        for one in running:
            one.kill()
            one.wait()


# --- coming and going


SCRIPT = """
import json, os
from pathlib import Path
from aboard.cluster import Cluster
folder = Path(os.environ["HOME"], "cluster")
with Cluster.up(2, folder=folder) as c:
    said = c.run("srun", "-N2", "bash", "-c", "echo $(hostname) $(id -u) $(grep CapEff /proc/self/status)", cwd="/")
    c.slow("n1", "10mbit"); c.cut("n2")
    links = c.links()
    c.heal("n2")
    inside = c.run("bash", "-c", "ip link set hsn0 down 2>&1 || echo may not", cwd="/")
print(json.dumps([c.means, sorted(said.splitlines()), links, inside, folder.exists(), c.name]))
"""


def test_an_ordinary_user_has_all_of_it():
    """Namespaces, links, jobs without rights, faults; the script runs as a user without privileges."""
    with tempfile.TemporaryDirectory(dir="/tmp") as base:  # where anybody may go
        os.chmod(base, 0o755)
        path = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = ordinary_user.run(["-c", SCRIPT], Path(base, "home"), timeout=120, env=path)
    assert done.returncode == 0, done.stderr
    how, said, links, inside, left, name = json.loads(done.stdout.splitlines()[-1])
    uid = ordinary_user.UID if os.geteuid() == 0 else os.getuid()
    assert how == "user" and not left and gone(name)
    assert said == [f"n{i} {uid} CapEff: 0000000000000000" for i in (1, 2)]
    assert links["cut"] == ["n2"] and links["rates"] == {"n1": "10mbit", "n2": "1gbit"}
    assert "may not" in inside


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def test_twenty_ups_and_downs_leave_no_process_mount_namespace_or_file(tmp_path):
    before = (mounts(), set(os.listdir("/run")), set(os.listdir("/tmp")))
    names, inits = [], {}
    for _ in range(20):
        with Cluster.up(2, folder=tmp_path / "c") as found:
            names.append(found.name)
            outside = json.loads((tmp_path / "c" / "process.json").read_text())["pid"]
            inits |= {pid: processes.start_time(pid) for pid in processes.children(outside)}
            found.run("sbatch", "--wrap", "sleep 100", cwd=tmp_path)
    assert all(gone(name) for name in names) and len(set(names)) == 20
    assert all(name.startswith("slurm-") for name in os.listdir(tmp_path))  # what jobs printed is the user's
    assert (mounts(), set(os.listdir("/run")) - before[1]) == (before[0], set())
    assert not [n for n in set(os.listdir("/tmp")) - before[2] if n.startswith("aboard-")]
    # A namespace lives as long as a process is in it or a mount holds it. Process 1 of a cluster ends last of all in it.
    assert len(inits) == 20 and not any(processes.start_time(pid) == began for pid, began in inits.items())


def named(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.parametrize("how", ["namespaces", "ports"])
def test_a_crash_leaves_nothing_that_down_or_up_does_not_clear(tmp_path, monkeypatch, how):
    if how == "ports":
        monkeypatch.setattr(means, "find", lambda: "ports")
    folder = tmp_path / "c"
    first = Cluster.up(2, folder=folder)
    first.run("sbatch", "-N2", "--wrap", "srun sleep 100", cwd=tmp_path)
    while not first.run("squeue", "-h", "-t", "R"):
        time.sleep(0.05)
    keeper = json.loads((folder / "process.json").read_text())["pid"]
    steps: list[int] = []
    while how == "ports" and not steps:  # in namespaces the kernel ends all of them
        time.sleep(0.05)
        steps = [pid for pid in processes.holding_sockets_in(first._run_folder) if named(pid) == "slurmstepd"]
    os.kill(keeper, signal.SIGKILL)
    while processes.start_time(keeper):
        time.sleep(0.01)
    if how == "namespaces":
        assert gone(first.name)
    with pytest.raises(UserError, match="No cluster stands here"):
        Cluster.find(folder)
    second = Cluster.up(2, folder=folder)
    assert gone(first.name) and not any(processes.start_time(pid) for pid in steps)
    second.run("srun", "-N2", "true", cwd="/")
    second.down()
    assert gone(second.name) and not folder.exists()
    assert not Path(second._run_folder).exists() or how == "namespaces"
    assert outside.take_down(folder) is False


def test_without_namespaces_several_slurmd_stand_on_one_host(tmp_path, monkeypatch):
    monkeypatch.setattr(means, "find", lambda: "ports")
    with Cluster.up(3, folder=tmp_path / "c") as found:
        said = found.run(
            "srun",
            "-N3",
            "--gres=gpu:2",
            "bash",
            "-c",
            "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES",
            cwd="/",
        )
        assert sorted(said.split("\n")[:-1]) == [f"n{i} 0,1" for i in (1, 2, 3)]
        with pytest.raises(UserError, match="Nodes have no links here, so none can be cut or slowed"):
            found.cut("n1")
        shown = aboard("status", folder=tmp_path / "c").stdout
        assert "all nodes share this machine's address" in shown and "cut and slow do not" in shown
        found.drain("n1")
        assert found.ask("srun", "-N3", "--immediate=2", "true", cwd="/").returncode != 0
        found.heal("n1")
        found.run("srun", "-N3", "true", cwd="/")


# --- the command line


def aboard(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aboard.cli", "cluster", *words], capture_output=True, text=True, timeout=120,
        env={**os.environ, "ABOARD_CLUSTER_DIR": str(folder), "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


def test_a_shell_says_where_it_is(tmp_path):
    """The prompt of an interactive shell, on a terminal of its own."""
    import pty

    folder = tmp_path / "it"
    with Cluster.up(1, folder=folder):
        master, slave = pty.openpty()
        shell = subprocess.Popen(
            [sys.executable, "-m", "aboard.cli", "cluster", "shell"], stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, "ABOARD_CLUSTER_DIR": str(folder), "TERM": "dumb"}, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        os.write(master, b"hostname; exit\n")
        said = b""
        while True:
            try:
                said += os.read(master, 1000)
            except OSError:
                break
        assert shell.wait(20) == 0 and b"[mini login " in said and b"\nlogin\r\n" in said, said


def test_the_command_line_builds_shows_breaks_and_ends_one(tmp_path):
    folder = tmp_path / "c"
    assert "No cluster stands here" in aboard("status", folder=folder).stderr
    made = aboard("up", "--nodes", "3", "--link-rate", "100mbit", folder=folder)
    assert made.returncode == 0 and re.search(r"^3 nodes up in \d+\.\d s\.", made.stdout), made.stderr
    assert aboard("exec", "srun", "-N", "2", "hostname", folder=folder).stdout.split() != []
    assert aboard("exec", "--on", "n2", "hostname", folder=folder).stdout.strip() == "n2"
    assert "n1 is cut off" in aboard("cut", "n1", folder=folder).stdout
    assert "n2 sends and receives at 10mbit" in aboard("slow", "n2", "10mbit", folder=folder).stdout
    shown = aboard("status", folder=folder).stdout
    assert re.search(r"n1 .*cut", shown) and re.search(r"n2 .*10mbit", shown) and "COMPLETED" in shown
    known = json.loads(aboard("status", "--json", folder=folder).stdout)
    assert [row["link"] for row in known["nodes"]] == ["cut", "10mbit", "100mbit"]
    wrong = aboard("cut", "n7", folder=folder)
    assert wrong.returncode == 2 and wrong.stderr.startswith("aboard: There is no node 'n7'")
    assert "nothing of it is left" in aboard("down", folder=folder).stdout
    assert "No cluster stands here." in aboard("down", folder=folder).stdout
