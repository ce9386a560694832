"""Every layer of the sandbox, as root and as an ordinary user: what it lets a notebook do, and what it refuses to grade."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from aboard.cluster import means
from autograder.errors import SandboxError
from autograder.sandbox import landlock, outer
from autograder.sandbox.host import LADDER, Sandbox
from tests import ordinary_user
from tests.changed_machine import WITHOUT_BUBBLEWRAP, WITHOUT_IP, on_a_machine, root_only
from tests.faults.saboteur import identity, still_running

ROOT = Path(__file__).parents[2]
TOML = """id = "alone"
title = "One process"
module = "m0"
lesson = "00-alone"
number = 1
minutes = 1
skills = ["doubles"]
hints = ["Add it to itself."]
[points]
doubles = 3
[limits]
ranks = 1
wall_s = 20
memory_mib = 512
[diagnoses]
"""
EXERCISE = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---
# One process

```{code-cell} ipython3
:answer: double

def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
```
"""
JUDGE = """from autograder import expect
from autograder.judge import check

@check("doubles")
def doubles(learner, draw):
    for _ in range(3):
        x = draw.integer(1, 99)
        expect.close(learner.call("double", x), 2 * x)
    twice, kept = learner.drive_in_folder("of_a_file", {"x": str(x).encode()}, returns=int)
    expect.close(twice, 2 * x)
    assert kept.opened == {"x": 1} and kept.files == {"x": str(x).encode()}, kept
"""
DRIVE = """def of_a_file(answers, folder):
    with open(folder + "/x") as file:
        return answers.double(int(file.read()))
"""
# Grades answers of exercises in one sandbox, one after the other; prints what a test wants to know of each.
GRADE = """
import json, sys
from pathlib import Path
from autograder.exercise import load_exercise
from autograder.grade import Grader
from aboard.cluster import means
from autograder.errors import SandboxError
from autograder.sandbox.host import Sandbox
from autograder.submission import Submission
order = json.loads(sys.argv[1])
found = []
with Sandbox(8, order["layer"]) as sandbox:
    assert order["layer"] in (None, sandbox.layer)
    grader = Grader(sandbox, "fork", "layers")
    for path, answers in order["work"]:
        exercise = load_exercise(Path(path))
        try:
            result, notebook = grader.grade_answers("ada", exercise, Submission(answers=answers or exercise.solution()))
        except SandboxError as error:
            found.append({"error": str(error)})
            continue
        outputs = [o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", [])]
        found.append({
            "score": result.score, "layers": result.sandbox, "printed": "".join(outputs),
            "diagnoses": [c.diagnosis for c in result.checks],
        })
print(json.dumps(found))
"""


def home_in(place: Path) -> Path:
    """A folder an ordinary user may reach."""
    ordinary_user.open_to_all(place)
    return place / "home"


def alone_in(place: Path) -> Path:
    folder = place / "alone"
    folder.mkdir()
    for name, text in {
        "exercise.toml": TOML,
        "exercise.md": EXERCISE,
        "judge.py": JUDGE,
        "drive.py": DRIVE,
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return home_in(tmp_path)


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    return alone_in(tmp_path)


def command(user: str, arguments: list[str], home: Path) -> list[str]:
    return ordinary_user.command(arguments, home) if user == "ordinary" else [sys.executable, *arguments]


def grade(
    user: str, layer: str | None, work: list[tuple[Path, dict[str, str]]], home: Path, first: str = ""
) -> list[dict]:
    """What GRADE prints of each (exercise, answers). `layer`: None for the best that works. `first`: what the machine's root
    changes before."""
    order = json.dumps({"layer": layer, "work": [(str(exercise), answers) for exercise, answers in work]})
    line = command(user, ["-c", GRADE, order], home)
    line = on_a_machine(first, line) if first else line
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=ROOT if user == "this" else "/", timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


RING = ROOT / "exercises" / "ring-all-reduce"
RIGHT = {"double": "def double(x):\n    return x + x"}
WRONG = {"double": "def double(x):\n    return x"}
DOUBLES = "\ndef double(x):\n    return 2 * x\n"
needs_landlock = pytest.mark.skipif(
    landlock.abi() < landlock.NEEDED_ABI, reason=f"this kernel has Landlock {landlock.abi()}"
)
BOTH = [(user, wall) for wall in outer.WALLS for user in ("this", "ordinary")]
if landlock.abi() >= landlock.NEEDED_ABI:
    BOTH.append(("ordinary", "landlock"))


ATTEMPTS = """
import os, socket, ctypes
def reads(): open({canary!r}).read()
def writes(): open({canary!r}, "a").close()
def lists(): assert {canary_name!r} in os.listdir({folder!r})
def calls_out(): socket.create_connection(("192.0.2.1", 80), timeout=0.5)
def calls_the_grader(): socket.create_connection(("127.0.0.1", {port}), timeout=0.5)
def signals(): os.kill({pid}, 0)
def reads_environment(): open("/proc/{pid}/environ", "rb").read()
def makes_a_namespace(): os.close(os.memfd_create("x")) if ctypes.CDLL(None).unshare(0x10000000) else None
def traces():
    if ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0) < 0: raise OSError
def opens_vsock(): socket.socket(40, socket.SOCK_STREAM)
for attempt in (reads, writes, lists, calls_out, calls_the_grader, signals, reads_environment, makes_a_namespace, traces, opens_vsock):
    try:
        attempt()
        print(attempt.__name__)
    except (OSError, AssertionError):
        pass
"""


LEAVES = """
import os, time
if os.fork() == 0:
    os.setsid()
    for _ in range(3):
        os.fork()
    while True:
        time.sleep(0.01)
"""


# What a room sees of the world, one fact a line: folders, file systems and how they are mounted, variables, identity.
LOOKS = """
import os
def look(folder, depth):
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        print(path, oct(os.lstat(path).st_mode), os.readlink(path) if os.path.islink(path) else "")
        if depth and os.path.isdir(path) and not os.path.islink(path):
            look(path, depth - 1)
look("/", 0)
for folder in ("/etc", "/dev", "/usr"):
    look(folder, 1 if folder == "/etc" else 0)
for name in ("hosts", "passwd", "group", "nsswitch.conf"):
    print(open("/etc/" + name).read())
for line in open("/proc/self/mountinfo"):
    at, options = line.split()[4:6]
    print("MOUNT", at, options, line.split(" - ")[1].split()[0])
for name, value in sorted(os.environ.items()):
    if name != "PWD":  # as bubblewrap leaves it
        print("VARIABLE", name, "" if name == "ALL_ABOARD_ROOM" else value)
print(*(line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs", "Seccomp:", "Uid", "Gid", "Groups"))))
print("IN", os.getcwd(), os.getuid(), os.getgid(), os.getgroups(), sorted(os.listdir("/proc/self/ns")))
"""


SEARCHES = """
import os, sys
for folder, inside, names in os.walk("/"):
    if folder in ("/proc", "/usr", sys.prefix, sys.base_prefix):
        inside.clear()
    secrets = ("CANARY", "exercise.toml", "exercises", "notebooks", "wrong", "right", ".git")
    print(*(os.path.join(folder, name) for name in [*inside, *names] if name in secrets), end="")
print(*(name for name, value in os.environ.items() if "CANARY" in value))
print(*(p for p in PLACES if os.path.exists(p)))
for pid in (p for p in os.listdir("/proc") if p.isdigit()):
    try:
        if b"CANARY" in open(f"/proc/{pid}/environ", "rb").read():
            print("environment of", pid)
    except PermissionError:
        pass
"""


def running() -> list[str]:
    """The `stat` line of every process that is not a corpse."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            lines.append(path.read_text())
        except OSError:
            continue
    return [line for line in lines if line.rpartition(")")[2].split()[0] not in "ZX"]


@dataclass
class Graded:
    """What came of one submission after the other in one sandbox, and what was true outside afterwards."""

    layer: str
    canary: str
    left: list[str]
    ranks: dict
    right: dict
    wrong: dict
    reaching: dict
    leaving: dict
    after: dict
    looking: dict | None = None  # behind walls
    searching: dict | None = None


def grade_everything(user: str, layer: str, place: Path) -> Graded:
    home, alone = home_in(place), alone_in(place)
    home.mkdir(exist_ok=True)
    canary = home / "canary.txt"
    canary.write_text("secret")
    os.chown(canary, ordinary_user.UID if user == "ordinary" and os.geteuid() == 0 else -1, -1)
    for name in ("results", "submissions"):
        (home / name).mkdir()
        (home / name / "CANARY").write_text("CANARY")
    mark = f"M{os.getpid() % 10**6}{layer[:4]}{user[:4]}"
    leaves = LEAVES.replace(
        "import os, time", f"import os, time, ctypes\nctypes.CDLL(None).prctl(15, b'{mark}')"
    )
    places = [*map(str, (home, alone, RING.parent, ROOT / "tests")), "/var", "/sys", "/etc/shadow"]
    searches = SEARCHES.replace("PLACES", repr(places))
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_TOKEN", "CANARY-environment")
        attempts = ATTEMPTS.format(
            canary=str(canary), canary_name=canary.name, folder=str(home), port=server.getsockname()[1], pid=os.getpid()
        )  # fmt: skip
        behind = (LOOKS, searches) if layer in outer.WALLS else ()
        reaching, leaving, *more = ({"double": code + DOUBLES} for code in (attempts, leaves, *behind))
        work = [(alone, one) for one in (RIGHT, WRONG, reaching, leaving, RIGHT, *more)]
        found = grade(user, layer, [(RING, {}), *work], home)
    left = [line for line in running() if mark in line]
    return Graded(layer, canary.read_text(), left, *found)


@pytest.fixture(scope="module")
def graded_by(tmp_path_factory):
    """What came of everything that `user` has graded in `layer`: done once, when it is first asked for."""
    done: dict[tuple[str, str], Graded] = {}

    def of(user: str, layer: str) -> Graded:
        if (user, layer) not in done:
            done[user, layer] = grade_everything(user, layer, tmp_path_factory.mktemp(f"{user}-{layer}"))
        return done[user, layer]

    return of


@pytest.fixture(params=BOTH, ids=lambda both: "-".join(both))
def graded(request, graded_by):
    return graded_by(*request.param)


@pytest.fixture(params=[one for one in BOTH if one[1] in outer.WALLS], ids=lambda both: "-".join(both))
def behind_a_wall(request, graded_by):
    return graded_by(*request.param)


def test_grades_and_records_the_layers(graded):
    assert (graded.right["score"], graded.wrong["score"]) == (3, 0)
    assert graded.wrong["diagnoses"] == ["wrong-values"]
    first = {"bubblewrap": "bubblewrap", "namespaces": "own wall", "landlock": "Landlock"}[graded.layer]
    assert graded.right["layers"][0] == first and "seccomp filter" in graded.right["layers"]
    assert ("sockets counted" in graded.right["layers"]) == (graded.layer in outer.WALLS)


def test_a_notebook_reaches_nothing_outside(graded):
    assert graded.reaching["printed"].split() == []
    assert graded.reaching["score"] == 3
    assert graded.canary == "secret"


def test_what_a_notebook_leaves_running_is_gone_when_it_is_graded(graded):
    assert [graded.leaving["score"], graded.after["score"]] == [3, 3]
    assert graded.left == []


@needs_landlock
def test_without_namespaces_files_on_disk_count_as_memory_and_are_removed(alone, home):
    flood = "import os\nfor i in range(30):\n    open(f'f{i}', 'wb').write(bytes(40_000_000))\n"
    work = [(alone, {"double": flood + DOUBLES}), (alone, RIGHT)]
    flooded, after = grade("ordinary", "landlock", work, home)
    assert flooded["score"] == 0
    assert after["score"] == 3
    assert not [p for p in home.glob("all-aboard-*")]


@needs_landlock
def test_an_exercise_on_ranks_is_not_graded_without_a_closed_network(graded_by):
    assert "several ranks" in graded_by("ordinary", "landlock").ranks["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_root_is_not_graded_for_without_namespaces():
    with pytest.raises(SandboxError, match="as an ordinary user"):
        Sandbox(1, "landlock")


def test_a_distributed_exercise_is_graded_behind_every_wall(behind_a_wall):
    assert behind_a_wall.ranks["score"] == 10


JOBS = """
import sys
from autograder.sandbox.cluster_host import WalledCluster
cluster = WalledCluster(2, None, "1gbit", 1024, sys.argv[1])
script = "#!/bin/bash\\n#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:1 --time=5 --output=%j.out\\nsrun hostname"
number = cluster.submit(script)["job"]
print(sorted(cluster.wait([number], 60)[0]["output"].split()))
cluster.close()
"""


@pytest.mark.skipif(
    bool(means.missing(means.SLURM)), reason="Slurm is not installed: sudo apt-get install slurm-wlm munge"
)
@pytest.mark.parametrize("user", ["this", "ordinary"])
def test_job_scripts_run_behind_our_own_wall(user, home):
    line = command(user, ["-c", JOBS, "namespaces"], home)
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=ROOT if user == "this" else "/", timeout=180
    )
    assert done.stdout.strip() == "['n1', 'n2']", done.stdout + done.stderr


@pytest.mark.parametrize("user", ["this", "ordinary"])
def test_both_walls_show_the_same_and_ours_lets_nothing_else_be_written(user, graded_by):
    seen = [graded_by(user, wall).looking["printed"].splitlines() for wall in outer.WALLS]
    theirs, ours = ([line for line in one if not line.startswith("MOUNT")] for one in seen)
    assert "IN /scratch 1000 1000 [65534] ['cgroup'" in ours[-1] or ours[-1].startswith(
        "IN /scratch 1000 1000"
    )
    assert len(ours) > 100 and ours == theirs
    mounts = [[line.split()[1:] for line in one if line.startswith("MOUNT")] for one in seen]
    places = [sorted({place for place, _, _ in one}) for one in mounts]
    assert places[0] == places[1]
    writable = {place for place, options, _ in mounts[1] if "rw" in options.split(",")}
    assert writable == {"/proc", "/dev/pts", "/scratch", "/dev/shm"}
    assert all("nosuid" in options.split(",") for _, options, _ in mounts[1])
    devices = {place for place, options, kind in mounts[1] if "nodev" not in options.split(",")}
    assert devices == {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts")}


def test_of_home_course_results_and_environment_nothing_is_there(behind_a_wall):
    assert behind_a_wall.searching["printed"].split() == []
    assert behind_a_wall.searching["score"] == 3


HOLDS = """
import sys, time
from autograder.exercise import Limits
from autograder.sandbox.host import Sandbox
from autograder.sandbox.room_host import SandboxRoom
sandbox = Sandbox(2, sys.argv[1])
room = SandboxRoom(sandbox, Limits(), "")
room.run_cell(FORK, 60)
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("user, layer", BOTH)
def test_nothing_is_left_when_the_grader_is_killed(user, layer, home):
    """Neither of the sandbox nor of what the learner had started."""
    fork = "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        time.sleep(3600)"
    line = command(user, ["-c", HOLDS.replace("FORK", repr(fork)), layer], home)
    grader = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT if user == "this" else "/")
    try:
        assert grader.stdout.readline() == "ready\n"
        family = {one for pid in descendants(grader.pid) if (one := identity(pid))}
        assert len(family) >= 5
    finally:
        grader.send_signal(signal.SIGKILL)
        grader.wait()
        grader.stdout.close()
    deadline = time.monotonic() + 10
    while (left := still_running(family)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid, _ in left]


def descendants(pid: int) -> list[int]:
    below = [
        int(p) for path in Path(f"/proc/{pid}/task").glob("*/children") for p in path.read_text().split()
    ]
    return below + [far for near in below for far in descendants(near)]


@root_only
@pytest.mark.parametrize("user", ["this", "ordinary"])
def test_without_bubblewrap_our_own_wall_is_taken(user, alone, home):
    right, wrong = grade(user, None, [(alone, RIGHT), (alone, WRONG)], home, WITHOUT_BUBBLEWRAP)
    assert (right["score"], wrong["score"]) == (3, 0)
    assert right["layers"][0] == "own wall"


@root_only
@pytest.mark.parametrize("wall", outer.WALLS)
def test_without_ip_one_sentence_says_what_to_install(wall, home):
    start = f"from autograder.sandbox.host import Sandbox; Sandbox(1, {wall!r})"
    line = on_a_machine(WITHOUT_IP, [sys.executable, "-c", start])
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "`ip` is missing; install the package iproute2" in done.stderr.splitlines()[-1]


@root_only
def test_what_restricts_a_mount_stays_when_it_is_shown_to_an_ordinary_user(tmp_path, home):
    """Such a folder may hold Python on a cluster; the kernel refuses a remount that would forget one of these."""
    folder = tmp_path / "soft ware"
    folder.mkdir()
    at, inner = shlex.quote(str(folder)), shlex.quote(str(folder / "in ner"))
    changed = f"mount -t tmpfs -o nosuid,nodev,noexec,noatime,nodiratime,mode=755 none {at}; mkdir {inner}; mount -t tmpfs -o nosuid,mode=755 none {inner}"
    show = f"""
import subprocess, sys
from pathlib import Path
from autograder.sandbox import outer
look = "print(*(l for l in open('/proc/self/mountinfo') if 'soft' in l)); open({str(folder / "in ner" / "x")!r}, 'w')"
sight = [*(one for one in outer.seen("") if one[1] != "/tmp"), *(("folder", str(p), "") for p in reversed(Path({str(folder)!r}).parents) if str(p) != "/")]
start = outer.own_wall([sys.executable, "-c", look], 0, [*sight, ("bind", {str(folder)!r}, "")], None)
sys.exit(subprocess.run(start.line, env=start.variables, cwd=start.folder).returncode)
"""
    line = on_a_machine(changed, ordinary_user.command(["-c", show], home))
    done = subprocess.run(line, capture_output=True, text=True, cwd="/")
    assert "Read-only file system" in done.stderr, done.stderr
    outside, inside = (set(line.split()[5].split(",")) for line in done.stdout.splitlines() if line)
    assert outside == {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"}
    assert inside == {"ro", "nosuid", "nodev", "relatime"}


def test_doctor_says_of_every_layer_whether_it_is_closed(home):
    done = ordinary_user.run(["-m", "autograder.cli", "doctor", "--json"], home, timeout=120)
    found = {f["name"]: f for f in json.loads(done.stdout)}
    assert found["sandbox: bubblewrap"]["ok"] and found["sandbox: namespaces"]["ok"]
    assert found["sandbox: landlock"]["ok"] == (landlock.abi() >= landlock.NEEDED_ABI)


@root_only
def test_doctor_is_content_with_our_own_wall_where_bubblewrap_is_not(home):
    line = on_a_machine(WITHOUT_BUBBLEWRAP, [sys.executable, "-m", "autograder.cli", "doctor", "--json"])
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=120)
    found = {f["name"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 0
    assert not found["bubblewrap"]["ok"] and found["bubblewrap"]["optional"]
    assert found["sandbox: bubblewrap"]["detail"] == outer.NOT_INSTALLED
    assert found["sandbox: namespaces"]["ok"] and "own wall" in found["sandbox: namespaces"]["detail"]


def without_namespaces(arguments: list[str], also: str = "") -> subprocess.CompletedProcess[str]:
    """Python as root of a machine that gives nobody a user namespace: one, in which the number of more is none."""
    changed = f"echo 0 > /proc/sys/user/max_user_namespaces\n{also}"
    line = ["unshare", "--user", "--map-root-user", *on_a_machine(changed, [sys.executable, *arguments])[1:]]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_when_no_layer_works_the_reason_of_each_is_told():
    done = without_namespaces(["-c", "from autograder.sandbox.host import Sandbox; Sandbox(1)"])
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "nothing is graded" in said and all(f"{name}: " in said for name in LADDER)
    assert said.count("sysctl user.max_user_namespaces") == 2


def test_grading_refuses_in_one_sentence_where_no_sandbox_is(tmp_path):
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "ring-all-reduce.ipynb").write_text("{}")
    grades = ["-m", "autograder.cli", "grade", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    done = without_namespaces(grades, WITHOUT_BUBBLEWRAP)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "not run without a sandbox" in done.stderr and "`autograder check`" in done.stderr
    assert not list((tmp_path / "out").glob("*/*/result.json"))
