"""Job scripts of strangers: run on a cluster behind a wall of its own, judged from what Slurm and the kernel say."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from aboard.cluster import means
from autograder.expect import Finding
from autograder.sandbox.cluster_host import WalledCluster
from tests import ordinary_user

pytestmark = pytest.mark.skipif(
    bool(means.missing(means.SLURM)), reason="Slurm is not installed: sudo apt-get install slurm-wlm munge"
)
HEAD = "#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:1 --time=5 --output=%j.out\n"


@pytest.fixture
def cluster():
    found = WalledCluster(2, None, "1gbit", 1024)
    yield found
    found.close()
    assert not marked()


def marked() -> list[str]:
    """Processes of rooms that this process has made."""
    mark, found = f"ALL_ABOARD_ROOM={os.getpid()}".encode(), []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                found.append(entry)
        except OSError:
            pass
    return found


def run(cluster, body: str, seconds: float = 40) -> dict:
    return cluster.wait([cluster.submit(HEAD + body)["job"]], seconds)[0]


def test_jobs_run_on_nodes_and_records_links_and_files_tell_of_them(cluster):
    cluster.put("greet.sh", "echo hello from $(hostname)\n")
    before = cluster.carried()
    done = run(
        cluster,
        "srun bash greet.sh\nsrun -N2 bash -c 'head -c 3000000 /dev/zero > /dev/tcp/$(hostname | tr 12 21)/9 || true'\necho x > result.txt\n",
    )
    assert (done["state"], done["nodes"], done["tasks"], done["gpus"]) == ("COMPLETED", ["n1", "n2"], 2, 2)
    assert sorted(done["output"].splitlines())[-2:] == ["hello from n1", "hello from n2"]
    assert cluster.read("*.txt") == {"result.txt": "x\n"}
    after = cluster.carried()
    assert all(after[node][0] > before[node][0] for node in ("n1", "n2"))
    assert "not a valid node count" in cluster.submit("#!/bin/bash\n#SBATCH --nodes=x\n")["refused"]


def test_a_job_sees_neither_the_grader_nor_the_system_nor_the_clusters_orders(cluster):
    script = """
cat /proc/$(pidof slurmctld)/mem 2>&1 | head -c 100
for place in / /etc /etc/slurm /usr /dev /scratch/cluster; do touch $place/mark 2>/dev/null && echo wrote $place; done
mv /etc/slurm /etc/other 2>/dev/null && echo moved
ls -A /scratch/cluster
ls /home 2>/dev/null
unshare -U true 2>/dev/null && echo unshared
env | grep -i secret
grep -l autograder.sandbox.cluster_server /proc/[0-9]*/cmdline
timeout 3 bash -c 'echo > /dev/tcp/192.0.2.1/80' 2>/dev/null && echo reached
grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t' | tr '\\n' ' '
"""
    os.environ["THE_SECRET"] = "1"
    try:
        done = run(cluster, script)
    finally:
        del os.environ["THE_SECRET"]
    lines = done["output"].strip().splitlines()
    assert "Permission denied" in lines[0] and len(lines) == 2, lines
    assert lines[1].split()[:2] == ["CapEff:0000000000000000", "NoNewPrivs:1"] and "Seccomp:2" in lines[1]


@pytest.mark.parametrize("victim", ["slurmctld", "slurmd", "munged"])
def test_who_ends_a_daemon_gets_no_further(victim):
    cluster = WalledCluster(2, None, "1gbit", 1024)
    try:
        number = cluster.submit(HEAD + f"pkill -9 {victim}\nsleep 1\n")["job"]
        with pytest.raises(Finding) as finding:
            found = cluster.wait([number], 8)[0]
            if not found["over"]:  # no slurmd is left to say that it is
                raise Finding("cluster-broken", "")
        assert finding.value.diagnosis == "cluster-broken"
    finally:
        cluster.close()
    assert not marked()


def test_memory_of_all_jobs_is_bounded(cluster):
    # Four programs on two nodes, of 400 MB each: none too large for itself.
    script = (
        HEAD + "srun -n4 --overcommit python -c 'x = bytearray(400 * 2**20); import time; time.sleep(20)'\n"
    )
    number = cluster.submit(script)["job"]
    with pytest.raises(Finding) as finding:
        cluster.wait([number], 30)
    assert finding.value.diagnosis == "out-of-memory"


def test_a_fork_bomb_and_a_flood_of_files_and_words_end_with_the_cluster(cluster):
    number = cluster.submit(HEAD + "bomb() { bomb | bomb & }; bomb; yes > flood.txt & yes & sleep 60\n")[
        "job"
    ]
    start = time.monotonic()
    try:
        found = cluster.wait([number], 3)[0]
        assert len(found["output"]) <= 256 * 1024
    except Finding as finding:
        assert finding.diagnosis in ("cluster-broken", "out-of-memory")
    cluster.close()
    assert time.monotonic() - start < 60


def test_the_login_node_runs_scripts_and_serves_only_itself(cluster):
    cluster.serve(
        "import http.server\nhttp.server.HTTPServer(('127.0.0.1', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    cluster.put("page.txt", "served\n")
    fetch = "python -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8000/page.txt\", timeout=3).read().decode())'\n"
    said = cluster.run(
        f"for i in $(seq 50); do {fetch[:-1]} 2>/dev/null && break; sleep 0.1; done; hostname; exit 3\n", 20
    )
    assert said["status"] == 3 and said["output"].split() == ["served", "login"]
    assert "Seccomp:\t2" in cluster.run("cat /proc/self/status", 5)["output"]
    assert cluster.run("sleep 60", 1)["status"] == 124
    done = run(cluster, fetch)
    assert done["state"] == "FAILED" and "refused" in done["output"]


def test_what_runs_is_asked_of_the_kernel(cluster):
    cluster.put("train.py", "import time\ntime.sleep(60)\n")
    script = """
srun -N2 -n4 --overcommit bash -c 'export RANK=$SLURM_PROCID; exec python -u train.py some thing' &
RANK=9 bash -c 'exec -a "python train.py" sleep 60' &
python -c 'import time; time.sleep(60)  # train.py' &
echo '{"RANK": "8"}' > seen-1-n2-1.json
wait
"""
    number = cluster.submit(HEAD + script)["job"]
    deadline = time.monotonic() + 60
    while len(found := cluster.running("train.py")) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {one["variables"]["SLURM_JOB_ID"] for one in found} == {str(number)}
    assert sorted((one["node"], one["variables"]["RANK"], *one["arguments"]) for one in found) == [
        ("n1", "0", "some", "thing"), ("n1", "1", "some", "thing"), ("n2", "2", "some", "thing"), ("n2", "3", "some", "thing")
    ]  # fmt: skip
    cluster.cancel(number)


def test_what_the_judge_serves_lies_in_no_file(cluster):
    secret = os.urandom(8).hex()
    hide = "import ctypes\nctypes.CDLL(None).prctl(4, 0)\n"
    cluster.serve(
        f"{hide}SECRET = '{secret}'\nopen('up.txt', 'w').write('up')\nimport time\ntime.sleep(300)\n"
    )
    assert cluster.until("up.txt", "up", 30)
    search = """
import os, re
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline", "fd/0", "maps"):
        try:
            found.append(open(f"/proc/{pid}/{name}", "rb").read(100_000))
        except OSError:
            pass
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in open(f"/proc/{pid}/maps"):
                low, high = (int(one, 16) for one in line.split()[0].split("-"))
                if " rw" in line and high - low < 2**26:
                    memory.seek(low)
                    found.append(memory.read(high - low))
    except OSError:
        pass
for folder in (".", "/tmp", "/dev/shm", "/run"):
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                found.append(open(os.path.join(where, name), "rb").read(100_000))
            except OSError:
                pass
print(len(found), "SAW" if any(b"@SECRET@" in text for text in found) else "saw nothing")
"""
    cut = search.replace("@SECRET@", secret[:7] + '" b"' + secret[7:])
    looked = cluster.run(f"python -I - <<'END'\n{cut}\nEND\n", 200)  # beside other tests it takes long
    said = looked["output"].split()
    assert looked["status"] == 0, looked
    assert int(said[0]) > 10 and said[1:] == ["saw", "nothing"], said


def test_links_and_pipes_are_not_read(cluster):
    done = run(
        cluster,
        "ln -s /etc/passwd link.txt; mkfifo pipe.txt; ln -sf /etc/passwd $SLURM_JOB_ID.out; echo plain > plain.txt\n",
    )
    assert cluster.read("*.txt") == {"plain.txt": "plain\n"}
    assert done["output"] == ""


ROOMS = """
from autograder.exercise import Limits
from autograder.sandbox.host import Sandbox
from autograder.sandbox.room_host import SandboxRoom
TRY = '''
for place in ("/", "/etc", "/dev", "/usr", "/root", "/run"):
    try:
        open(place + "/mark", "w")
        print("wrote", place)
    except OSError:
        pass
print("tried")
'''
with Sandbox(1) as sandbox:
    room = SandboxRoom(sandbox, Limits(), "")
    print(room.run_cell(TRY, 20)["outputs"][0]["text"])
    room.close()
"""
JOBS = f"""
from autograder.sandbox.cluster_host import WalledCluster
cluster = WalledCluster(2, None, "1gbit", 1024)
number = cluster.submit({HEAD + "srun hostname"!r})["job"]
print(sorted(cluster.wait([number], 40)[0]["output"].split()))
cluster.close()
"""


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder) / "home"


@pytest.mark.parametrize("user", ["ordinary", "this"])
def test_rooms_can_leave_nothing_in_the_folders_of_the_wall(user, home):
    """What one room leaves there, the next would find. The folders belong to whoever grades."""
    if user == "this":
        done = subprocess.run(
            [sys.executable, "-c", ROOMS], capture_output=True, text=True, cwd=ordinary_user.ROOT
        )
    else:
        done = ordinary_user.run(["-c", ROOMS], home)
    assert done.stdout.strip() == "tried", done.stdout + done.stderr


def test_an_ordinary_user_grades_job_scripts(home):
    done = ordinary_user.run(["-c", JOBS], home)
    assert done.stdout.strip() == "['n1', 'n2']", done.stdout + done.stderr
