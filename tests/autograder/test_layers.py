"""Every layer of the sandbox, as root and as an ordinary user: what it lets a notebook do, and what it refuses to grade."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.errors import SandboxError
from autograder.sandbox import landlock
from autograder.sandbox.host import Sandbox
from tests import ordinary_user

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
"""
# Grades answers of an exercise in one sandbox, one after the other; prints what a test wants to know of each.
GRADE = """
import json, sys
from pathlib import Path
from autograder.exercise import load_exercise
from autograder.grade import Grader
from autograder.errors import SandboxError
from autograder.sandbox.host import Sandbox
from autograder.submission import Submission
order = json.loads(sys.argv[1])
found = []
with Sandbox(8, order["layer"]) as sandbox:
    grader = Grader(sandbox, "fork", "layers")
    exercise = load_exercise(Path(order["exercise"]))
    for answers in order["answers"]:
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


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder an ordinary user may reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if not os.stat(folder).st_mode & 0o001 and folder.owner() == Path("~").expanduser().owner():
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path / "home"


@pytest.fixture
def alone(tmp_path: Path, home: Path) -> Path:
    folder = tmp_path / "alone"
    folder.mkdir()
    for name, text in {"exercise.toml": TOML, "exercise.md": EXERCISE, "judge.py": JUDGE}.items():
        (folder / name).write_text(text)
    return folder


def grade(user: str, layer: str, exercise: Path, answers: list[dict[str, str]], home: Path) -> list[dict]:
    order = json.dumps({"layer": layer, "exercise": str(exercise), "answers": answers})
    if user == "ordinary":
        done = ordinary_user.run(["-c", GRADE, order], home, timeout=120)
    else:
        done = subprocess.run(
            [sys.executable, "-c", GRADE, order], capture_output=True, text=True, cwd=ROOT, timeout=120
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


RIGHT = {"double": "def double(x):\n    return x + x"}
WRONG = {"double": "def double(x):\n    return x"}
DOUBLES = "\ndef double(x):\n    return 2 * x\n"
needs_landlock = pytest.mark.skipif(
    landlock.abi() < landlock.NEEDED_ABI, reason=f"this kernel has Landlock {landlock.abi()}"
)
BOTH = [
    ("this", "bubblewrap"),
    ("ordinary", "bubblewrap"),
    pytest.param("ordinary", "landlock", marks=needs_landlock),
]


@pytest.mark.parametrize("user, layer", BOTH)
def test_grades_and_records_the_layers(user, layer, alone, home):
    right, wrong = grade(user, layer, alone, [RIGHT, WRONG], home)
    assert (right["score"], wrong["score"]) == (3, 0)
    assert wrong["diagnoses"] == ["wrong-values"]
    first = {"bubblewrap": "bubblewrap", "landlock": "Landlock"}[layer]
    assert right["layers"][0] == first and "seccomp filter" in right["layers"]


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


@pytest.mark.parametrize("user, layer", BOTH)
def test_a_notebook_reaches_nothing_outside(user, layer, alone, home):
    import socket

    home.mkdir(exist_ok=True)
    canary = home / "canary.txt"
    canary.write_text("secret")
    os.chown(canary, ordinary_user.UID if user == "ordinary" and os.geteuid() == 0 else -1, -1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        attempts = ATTEMPTS.format(
            canary=str(canary),
            canary_name=canary.name,
            folder=str(home),
            port=server.getsockname()[1],
            pid=os.getpid(),
        )
        (found,) = grade(user, layer, alone, [{"double": attempts + DOUBLES}], home)
    assert found["printed"].split() == []
    assert found["score"] == 3
    assert canary.read_text() == "secret"


LEAVES = """
import os, time
if os.fork() == 0:
    os.setsid()
    for _ in range(3):
        os.fork()
    while True:
        time.sleep(0.01)
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


@pytest.mark.parametrize("user, layer", BOTH)
def test_what_a_notebook_leaves_running_is_gone_when_it_is_graded(user, layer, alone, home):
    mark = f"MARK_{os.getpid()}_{layer}_{user}"
    answer = LEAVES.replace(
        "import os, time", f"import os, time, ctypes\nctypes.CDLL(None).prctl(15, b'{mark[-15:]}')"
    )
    found = grade(user, layer, alone, [{"double": answer + DOUBLES}, RIGHT], home)
    assert [one["score"] for one in found] == [3, 3]
    assert not [line for line in running() if mark[-15:] in line]


@needs_landlock
def test_without_namespaces_files_on_disk_count_as_memory_and_are_removed(alone, home):
    flood = "import os\nfor i in range(30):\n    open(f'f{i}', 'wb').write(bytes(40_000_000))\n"
    flooded, after = grade("ordinary", "landlock", alone, [{"double": flood + DOUBLES}, RIGHT], home)
    assert flooded["score"] == 0
    assert after["score"] == 3
    assert not [p for p in home.glob("all-aboard-*")]


@needs_landlock
def test_an_exercise_on_ranks_is_not_graded_without_a_closed_network(home, tmp_path):
    (found,) = grade("ordinary", "landlock", ROOT / "exercises" / "ring-all-reduce", [{}], home)
    assert "several ranks" in found["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_root_is_not_graded_for_without_namespaces():
    with pytest.raises(SandboxError, match="as an ordinary user"):
        Sandbox(1, "landlock")


def test_an_ordinary_user_grades_a_distributed_exercise(home):
    (found,) = grade("ordinary", "bubblewrap", ROOT / "exercises" / "ring-all-reduce", [{}], home)
    assert found["score"] == 10


def test_doctor_says_of_every_layer_whether_it_is_closed(home):
    done = ordinary_user.run(["-m", "autograder.cli", "doctor", "--json"], home, timeout=120)
    found = {f["name"]: f for f in json.loads(done.stdout)}
    assert found["sandbox: bubblewrap"]["ok"]
    assert found["sandbox: landlock"]["ok"] == (landlock.abi() >= landlock.NEEDED_ABI)


def test_when_no_layer_works_the_reason_of_each_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has Landlock left")
    with pytest.raises(SandboxError) as caught:
        Sandbox(1)
    assert "bubblewrap:" in str(caught.value) and "landlock:" in str(caught.value)
