"""The machine around the grader fails: full disks, no permission, damaged files, few descriptors, no shared memory."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.faults.conftest import LEARNERS, ROOT, Batch

PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private")
if os.geteuid() != 0:
    PRIVATE_MOUNTS += ("--user", "--map-root-user")


def sentence(done) -> str:
    """What a person reads when grading failed: no traceback, and a status of its own."""
    said = done.stderr + done.stdout
    assert done.returncode == 2, said
    assert "Traceback" not in said, said
    return " ".join(said.split())


def test_a_full_disk_is_told_and_grading_goes_on_when_there_is_room(batch: Batch, undisturbed, tmp_path: Path):
    out = tmp_path / "results"
    out.mkdir()
    kept = tmp_path / "kept"
    small = (*PRIVATE_MOUNTS, "sh", "-c", f'mount -t tmpfs -o size=96k tmpfs {out}; "$@"; s=$?; cp -r {out} {kept}; exit $s', "-")
    said = sentence(batch.grade(out, small))
    assert "No space left on device" in said
    shutil.copytree(kept, out, dirs_exist_ok=True)
    assert 0 < len(batch.results(out)) < LEARNERS  # what there was room for is whole
    assert batch.grade(out).returncode == 0
    assert batch.results(out) == undisturbed


def test_results_that_may_not_be_written(batch: Batch, tmp_path: Path):
    out = tmp_path / "results"
    out.mkdir()
    read_only = (*PRIVATE_MOUNTS, "sh", "-c", f'mount -t tmpfs -o ro tmpfs {out}; exec "$@"', "-")
    assert "cannot be written" in sentence(batch.grade(out, read_only))


def test_results_in_a_place_that_is_a_file(batch: Batch, tmp_path: Path):
    (tmp_path / "results").write_text("mine")
    assert "cannot be written" in sentence(batch.grade(tmp_path / "results"))
    assert (tmp_path / "results").read_text() == "mine"


def test_without_shared_memory(batch: Batch, undisturbed, tmp_path: Path):
    nothing = (*PRIVATE_MOUNTS, "sh", "-c", 'mount -t tmpfs -o ro,size=4k tmpfs /dev/shm; exec "$@"', "-")
    done = batch.grade(tmp_path / "results", nothing)
    assert done.returncode == 0, done.stderr
    assert batch.results(tmp_path / "results") == undisturbed


@pytest.mark.parametrize("descriptors", [12, 40, 80])
def test_few_open_files(batch: Batch, undisturbed, tmp_path: Path, descriptors: int):
    done = batch.grade(tmp_path / "results", ("prlimit", f"--nofile={descriptors}"))
    if done.returncode != 0:
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert batch.grade(tmp_path / "results").returncode == 0
    assert batch.results(tmp_path / "results") == undisturbed


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seed": 7}', "\xff\x00"])
def test_damaged_settings_of_a_batch(batch: Batch, undisturbed, tmp_path: Path, text: str):
    out = tmp_path / "results"
    out.mkdir()
    (out / "batch.json").write_text(text, encoding="latin-1")
    done = batch.grade(out)
    assert done.returncode == 0, done.stderr
    assert batch.results(out) == undisturbed


@pytest.fixture
def graded(batch: Batch, undisturbed, tmp_path: Path) -> Path:
    out = tmp_path / "results"
    assert batch.grade(out).returncode == 0
    return out


def test_results_that_are_lost_or_half_written_are_graded_again(batch: Batch, undisturbed, graded: Path):
    first, second, third, fourth = sorted(graded.glob("*/*/result.json"))[:4]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-20])
    third.write_text("{}")
    fourth.write_text(json.dumps(json.loads(fourth.read_text()) | {"submission_sha256": "0" * 64}))
    untouched = {p: p.stat().st_mtime_ns for p in sorted(graded.glob("*/*/result.json"))[4:]}
    done = batch.grade(graded)
    assert "Grading 4 submissions" in done.stdout
    assert batch.results(graded) == undisturbed
    assert untouched == {p: p.stat().st_mtime_ns for p in untouched}


@pytest.mark.parametrize("harm", ["lost", "cut", "garbage", "of another shape"])
def test_the_database_is_made_again_from_the_results(batch: Batch, graded: Path, harm: str):
    database = graded / "results.sqlite"
    right = batch.rows(graded)
    if harm == "lost":
        database.unlink()
    elif harm == "cut":
        database.write_bytes(database.read_bytes()[:5000])
    elif harm == "garbage":
        database.write_bytes(os.urandom(20_000))
    else:
        database.unlink()
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE submissions (name TEXT)")
    done = batch.grade(graded)
    assert done.returncode == 0, done.stderr
    assert batch.rows(graded) == right


def test_no_limit_depends_on_the_clock_on_the_wall():
    """A clock that jumps must neither end a submission nor let it go on: only monotonic time is asked."""
    for path in [*(ROOT / "autograder").rglob("*.py"), *(ROOT / "aboard").rglob("*.py")]:
        text = path.read_text()
        assert "time.time()" not in text and "datetime.now" not in text, path
