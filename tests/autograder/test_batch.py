"""A cohort graded from the command line: every submission gets its result, whatever was handed in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autograder.exercise import Course, Exercise
from autograder.verdict import Result
from tests.cohort import malformed, notebook, solved, untouched
from tests.small import small_ring

ROOT = Path(__file__).parents[2]


def run(*arguments: object, **extra: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "autograder.cli", *map(str, arguments)]
    extra = {"cwd": ROOT} | extra
    return subprocess.run(line, capture_output=True, text=True, timeout=600, **extra)  # type: ignore[call-overload]


def course_of(exercise: Exercise) -> Path:
    return exercise.folder.parents[1]


def results(out: Path) -> dict[str, Result]:
    return {
        f"{p.parent.parent.name}/{p.parent.name}": Result.model_validate_json(p.read_bytes())
        for p in out.glob("*/*/result.json")
    }


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    return small_ring(tmp_path_factory.mktemp("course"), wall_s=12)


@pytest.fixture(scope="module")
def cohort(ring, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    loop = "def ring_all_reduce(tensor):\n    while True:\n        pass"
    texts = {
        "ada": solved(ring),
        "ben": untouched(ring),
        "cem": malformed(ring),
        "dora": "",
        "eve; rm -rf ~ <script>alert(1)": solved(ring),
        "fred": json.dumps({"nbformat": 3, "worksheets": []}),
        "gaia": notebook(ring, ring.solution() | {"ring": loop}),
    }
    for learner, text in texts.items():
        (folder / learner).mkdir()
        (folder / learner / "ring-all-reduce.ipynb").write_text(text)
    (folder / "ada" / "no-such-exercise.ipynb").write_text(solved(ring))
    (folder / "ida").mkdir()
    (folder / "ida" / "ring-all-reduce.ipynb").symlink_to("/etc/passwd")
    (folder / "loose.ipynb").write_text("x")
    (folder / "hana").mkdir()
    (folder / "hana" / "ring-all-reduce.py").write_text("x")
    return folder


@pytest.fixture(scope="module")
def graded(ring, cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    done = run("grade", cohort, "--out", out, "--seed", "s", cwd=course_of(ring))
    return done, out


def test_grades_all_and_exits_0_however_learners_fared(graded):
    done, out = graded
    assert done.returncode == 0, done.stderr
    found = results(out)
    assert {k: (r.status, r.score) for k, r in found.items()} == {
        "ada/ring-all-reduce": ("graded", 6),
        "ida/ring-all-reduce": ("rejected", 0),
        "ada/no-such-exercise": ("rejected", 0),
        "ben/ring-all-reduce": ("graded", 0),
        "cem/ring-all-reduce": ("rejected", 0),
        "dora/ring-all-reduce": ("rejected", 0),
        "eve; rm -rf ~ <script>alert(1)/ring-all-reduce": ("graded", 6),
        "fred/ring-all-reduce": ("rejected", 0),
        "gaia/ring-all-reduce": ("timed_out", 2),
    }
    assert "link" in found["ida/ring-all-reduce"].message
    assert "There is no exercise 'no-such-exercise'" in found["ada/no-such-exercise"].message
    assert "note: hana holds no notebook" in done.stdout and "note: loose.ipynb is not" in done.stdout


def test_every_result_has_a_page_and_stands_in_the_database_and_the_report(graded):
    _, out = graded
    for path in out.glob("*/*/result.json"):
        assert "<script" not in (path.parent / "feedback.html").read_text()
    with sqlite3.connect(out / "results.sqlite") as database:
        (count,) = database.execute("select count(*) from submissions").fetchone()
    assert count == len(results(out))
    assert "<script" not in (out / "report.html").read_text()


def test_the_same_command_again_does_nothing_and_a_new_file_only_itself(graded, ring, cohort):
    _, out = graded
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*/result.json")}
    again = run("grade", cohort, "--out", out, cwd=course_of(ring))
    assert again.returncode == 0 and "graded already" in again.stdout
    assert before == {p: p.stat().st_mtime_ns for p in out.glob("*/*/result.json")}
    ben = cohort / "ben" / "ring-all-reduce.ipynb"
    ben.write_text(solved(ring))
    assert "Grading 1 submission" in run("grade", cohort, "--out", out, cwd=course_of(ring)).stdout
    assert results(out)["ben/ring-all-reduce"].score == 6


def test_a_killed_grader_goes_on_where_it_was(ring, cohort, tmp_path):
    quick = tmp_path / "submissions"  # all but the one that loops until its time is up
    shutil.copytree(cohort, quick, symlinks=True, ignore=shutil.ignore_patterns("gaia"))
    cohort, tmp_path = quick, tmp_path / "results"
    line = [
        sys.executable,
        "-m",
        "autograder.cli",
        "grade",
        str(cohort),
        "--out",
        str(tmp_path),
        "--seed",
        "s",
        "--jobs",
        "1",
    ]
    first = subprocess.Popen(line, cwd=course_of(ring), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert 0 < len(results(tmp_path)) < 8
    assert run("grade", cohort, "--out", tmp_path, cwd=course_of(ring)).returncode == 0
    assert len(results(tmp_path)) == 8
    assert {r.seed for r in results(tmp_path).values()} == {"s"}


def test_what_the_user_can_mend_is_one_sentence_and_status_2(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for arguments in (
        ("grade", tmp_path / "nowhere", "--out", tmp_path / "r"),
        ("grade", tmp_path / "empty", "--out", tmp_path / "r"),
        ("grade", tmp_path / "empty", "--out", tmp_path / "file" / "r"),
        ("grade", tmp_path / "empty", "--out", tmp_path / "r", "--engine", "magic"),
        ("lint", "ring-all-reduc"),
        ("check", tmp_path / "none.ipynb"),
        ("new", "exercise", "../x"),
        ("grade", tmp_path / "empty", "--out", tmp_path / "r", "--frobnicate"),
    ):
        done = run(*arguments, env=os.environ | {"COLUMNS": "200"})
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr and done.stderr.strip()


def test_check_gives_the_same_feedback_on_ones_own_machine(tmp_path):
    ring = Course(ROOT).exercise("ring-all-reduce")
    path = tmp_path / "mine.ipynb"
    wrong = next(v for v in ring.variants("wrong") if v.name == "divided")
    path.write_text(notebook(ring, dict(wrong.answers)))
    done = run("check", path, "--json", "--course", ROOT)
    assert done.returncode == 0, done.stderr
    result = Result.model_validate_json(done.stdout)
    assert [c.diagnosis for c in result.checks] == [None, "divided", "result-first", "result-first"]
    shown = run("check", path, "--course", ROOT).stdout
    assert "mean" in shown and "2" in shown


def test_a_file_in_the_place_of_the_results_is_told(cohort, tmp_path):
    (tmp_path / "out").write_text("x")
    done = run("grade", cohort, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"autograder: Results cannot be written to {tmp_path / 'out'}: it is a file, not a folder. Choose another --out."
    )
