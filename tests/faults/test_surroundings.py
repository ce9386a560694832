"""The machine around the grader fails: full disks, no permission, damaged files, few descriptors, no shared memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from autograder import batch as batches
from autograder.errors import UserError
from tests.faults.conftest import ANSWERS, ROOT, Batch

PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private")
if os.geteuid() != 0:
    PRIVATE_MOUNTS += ("--user", "--map-root-user")


def with_mounts(*lines: str) -> tuple[str, ...]:
    """A program that runs another one where these mounts have been made; nobody else sees them."""
    return (*PRIVATE_MOUNTS, "sh", "-ec", "\n".join((*lines, 'exec "$@"')), "-")


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a person reads when grading failed: no traceback, and a status of its own."""
    said = done.stderr + done.stdout
    assert done.returncode == 2, said
    assert "Traceback" not in said, said
    return " ".join(said.split())


# --- places that cannot be written -------------------------------------------------------------------


def test_a_full_disk_is_told_and_grading_goes_on_when_there_is_room(small: Batch, quiet, tmp_path: Path):
    out, kept = tmp_path / "results", tmp_path / "kept"
    out.mkdir()
    steps = f'mount -t tmpfs -o size=40k tmpfs {out}\n"$@" || status=$?\ncp -r {out} {kept}\nexit $status'
    assert "No space left on device" in sentence(small.grade(out, (*PRIVATE_MOUNTS, "sh", "-ec", steps, "-")))
    shutil.copytree(kept, out, dirs_exist_ok=True)
    assert len(small.results(out)) < len(ANSWERS)  # and what there was room for is whole
    assert small.grade(out).returncode == 0
    assert small.results(out) == quiet


def test_results_that_may_not_be_written(small: Batch, tmp_path: Path):
    out = tmp_path / "results"
    out.mkdir()
    assert "cannot be written" in sentence(small.grade(out, with_mounts(f"mount -t tmpfs -o ro tmpfs {out}")))


def test_results_in_a_place_that_is_a_file(small: Batch, tmp_path: Path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        small.grade_here(tmp_path / "results")
    assert (tmp_path / "results").read_text() == "mine"


def test_settings_in_a_place_that_is_a_folder(small: Batch, tmp_path: Path):
    (tmp_path / "results" / "batch.json").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"):
        small.grade_here(tmp_path / "results")


def test_one_learners_place_that_is_taken_harms_no_other(small: Batch, quiet, tmp_path: Path):
    out = tmp_path / "results"
    (out / "learner-01" / "together" / "result.json").mkdir(parents=True)
    (out / "learner-02").write_text("mine")
    said = sentence(small.grade(out))
    assert "2 submissions could not be graded" in said and "learner-01" in said and "learner-02" in said
    shutil.rmtree(out / "learner-01")
    assert (out / "learner-02").read_text() == "mine"
    assert small.results(out) == {name: quiet[name] for name in ("learner-00", "learner-03")}


def test_results_that_disappear_while_others_are_made(small: Batch, quiet, tmp_path: Path):
    out = tmp_path / "results"
    running = small.start(out)
    end = time.monotonic() + 60
    while not list(out.glob("*/*/result.json")) and running.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    out.rename(tmp_path / "gone")
    printed, _ = running.communicate(timeout=300)
    assert running.returncode == 2 and "Traceback" not in printed, printed
    assert "no longer" in " ".join(printed.split()) or "could not" in printed, printed
    assert small.grade(out).returncode == 0
    assert small.results(out) == quiet


# --- a poor machine ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read-only", "missing"])
def test_without_shared_memory(small: Batch, quiet, tmp_path: Path, how: str):
    if how == "read-only":
        line = with_mounts("mount -t tmpfs -o ro,size=4k tmpfs /dev/shm")
    else:
        devices = f"for name in null zero full random urandom tty; do touch {tmp_path}/$name; mount --bind /dev/$name {tmp_path}/$name; done"
        line = with_mounts(
            f"mount -t tmpfs tmpfs {tmp_path}",
            devices,
            f"mount --rbind {tmp_path} /dev",
            "test ! -e /dev/shm",
        )
    out = tmp_path.parent / f"{tmp_path.name}-results"
    done = small.grade(out, line)
    assert done.returncode == 0, done.stderr + done.stdout
    assert small.results(out) == quiet


@pytest.mark.parametrize("descriptors", [16, 64])
def test_too_few_open_files_is_told_and_nothing_graded(small: Batch, tmp_path: Path, descriptors: int):
    out = tmp_path / "results"
    said = sentence(small.grade(out, ("prlimit", f"--nofile={descriptors}")))
    assert f"may open only {descriptors} files" in said, said
    assert not list(out.glob("*/*/result.json"))


def test_few_open_files_that_may_be_made_more(small: Batch, quiet, tmp_path: Path):
    done = small.grade(tmp_path / "results", ("prlimit", "--nofile=24:4096"))
    assert done.returncode == 0, done.stderr + done.stdout
    assert small.results(tmp_path / "results") == quiet


def test_a_clock_that_jumps(small: Batch, quiet, tmp_path: Path):
    """Whoever asks for the time of day is told one that is wrong by up to four months, another one each time."""
    (tmp_path / "sitecustomize.py").write_text(
        "import random, time\n"
        "real, chance = time.time, random.Random(0)\n"
        "def jumping():\n"
        f"    open({str(tmp_path / 'asked')!r}, 'a').close()\n"
        "    return real() + chance.uniform(-1e7, 1e7)\n"
        "time.time = jumping\n"
        "time.time_ns = lambda: int(time.time() * 1e9)\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = small.grade(tmp_path / "results", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert small.results(tmp_path / "results") == quiet
    assert (tmp_path / "asked").exists(), "nobody asked this clock, so nothing was tried"


def test_no_limit_depends_on_the_clock_on_the_wall():
    """A clock that jumps must neither end a submission nor let it go on: only monotonic time is asked."""
    for path in [*(ROOT / "autograder").rglob("*.py"), *(ROOT / "aboard").rglob("*.py")]:
        assert not re.search(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)\(", path.read_text()), path


def test_names_and_texts_that_are_no_unicode(tmp_path: Path):
    """Bytes that no text has, in a folder's name and in what the code says, harm neither their own grade nor others'."""
    odd = Batch(tmp_path / "odd", 1)
    bad = "'\\udce4\\ud800'"
    odd.hand_in(os.fsdecode(b"J\xf6rg"), None)
    odd.hand_in("raises", f"def add(x):\n    raise ValueError({bad})")
    odd.hand_in("prints", odd.exercise.solution()["add"] + f"\nprint({bad})")
    odd.hand_in("returns", f"def add(x):\n    return {bad}")
    odd.hand_in("stops", f"raise ValueError({bad})")
    out = tmp_path / "results"
    done = odd.grade(out)
    assert done.returncode == 0, done.stderr + done.stdout
    found = {path.parts[-3]: json.loads(path.read_text())["score"] for path in out.glob("*/*/result.json")}
    assert found == {
        "learner-00": 3, os.fsdecode(b"J\xf6rg"): 3, "prints": 3, "raises": 0, "returns": 0, "stops": 0
    }  # fmt: skip
    assert len(odd.rows(out)) == 6


# --- damaged files ---------------------------------------------------------------------------------------


@pytest.fixture
def graded(small: Batch, results_of_a_quiet_run: Path, tmp_path: Path) -> Path:
    """A folder of results to be damaged."""
    return shutil.copytree(results_of_a_quiet_run, tmp_path / "results")


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "null", '{"seed": 7}', '{"seed": ""}', "[" * 9999, "\xff\x00"]
)
def test_settings_that_are_lost_or_damaged_are_found_again_in_the_results(small: Batch, graded: Path, text):
    if text is None:
        (graded / "batch.json").unlink()
    else:
        (graded / "batch.json").write_text(text, encoding="latin-1")
    plan = batches.plan(small.submissions, graded, "fork", None, False)
    assert (plan.seed, plan.todo, len(plan.done_before)) == ("faults", [], len(ANSWERS))
    assert json.loads((graded / "batch.json").read_text())["seed"] == "faults"


def test_without_settings_and_results_everything_is_graded_with_one_new_seed(small: Batch, tmp_path: Path):
    (tmp_path / "batch.json").write_text("{")
    first = batches.plan(small.submissions, tmp_path, "fork", None, False)
    again = batches.plan(small.submissions, tmp_path, "fork", None, False)
    assert len(first.seed) >= 16 and again.seed == first.seed
    assert len(first.todo) == len(again.todo) == len(ANSWERS)


def test_results_that_are_lost_or_half_written_are_graded_again(small: Batch, quiet, graded: Path):
    first, second, third, fourth = sorted(graded.glob("*/*/result.json"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-20])
    (third.parent / "feedback.html").write_bytes(b"")  # as a power cut may leave it
    (graded / ".batch.json.1.tmp").write_text("half")
    (second.parent / ".result.json.1.tmp").write_text("half")
    untouched = fourth.stat().st_mtime_ns
    done = small.grade(graded)
    assert done.returncode == 0 and "Grading 3 submissions" in done.stdout, done.stderr
    assert small.results(graded) == quiet
    assert fourth.stat().st_mtime_ns == untouched
    assert not list(graded.rglob(".*.tmp"))


@pytest.mark.parametrize("text", ["", "{}", "null", '{"schema": 1}', "[" * 100_000, "\xff"])
def test_a_result_that_is_none_counts_as_not_graded(small: Batch, graded: Path, text: str):
    path = graded / "learner-00" / "together" / "result.json"
    path.write_text(text, encoding="latin-1")
    plan = batches.plan(small.submissions, graded, "fork", None, False)
    assert [task.learner for task in plan.todo] == ["learner-00"]


@pytest.mark.parametrize("harm", ["lost", "cut", "garbage", "of another shape", "half made anew"])
def test_the_database_is_made_again_from_the_results(small: Batch, graded: Path, harm: str):
    database = graded / "results.sqlite"
    right = small.rows(graded)
    assert len(right) == len(ANSWERS)
    if harm == "lost":
        database.unlink()
    elif harm == "cut":
        database.write_bytes(database.read_bytes()[:5000])
    elif harm == "garbage":
        database.write_bytes(os.urandom(20_000))
    elif harm == "of another shape":
        database.unlink()
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE submissions (name TEXT)")
    else:
        (graded / ".results.sqlite.new").write_bytes(os.urandom(5000))
    assert "graded already" in small.grade_here(graded)
    assert small.rows(graded) == right
    assert not (graded / ".results.sqlite.new").exists()


def test_a_database_that_cannot_be_made_is_told(small: Batch, graded: Path):
    (graded / "results.sqlite").unlink()
    (graded / "results.sqlite").mkdir()
    with pytest.raises(UserError, match="database"):
        small.grade_here(graded)
