"""Commands as one types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from aboard.cluster import means
from autograder.exercise import Course
from autograder.lint import mistyped, nameless

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "autograder.cli", *arguments]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_doctor_starts_a_sandbox_and_finds_it_closed():
    done = run("doctor", "--json")
    found = {f["name"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert found["sandbox: bubblewrap"]["ok"] and "seccomp" in found["sandbox: bubblewrap"]["detail"]
    if not means.missing(means.SLURM):
        assert found["Slurm"]["ok"] and found["Slurm"]["detail"] == "a job ran in the sandbox"


def test_help_loads_neither_torch_nor_a_notebook_library():
    code = (
        "import sys, autograder.cli\n"
        "heavy = {'torch', 'papermill', 'nbformat', 'IPython', 'matplotlib', 'sqlalchemy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for command in ("release", "check", "grade", "lint", "doctor", "new"):
        assert run(command, "--help").returncode == 0


def test_lint_passes_a_new_exercise_but_for_its_number_of_answers(tmp_path):
    (tmp_path / "exercises").mkdir()
    assert run("new", "exercise", "my-first", "--course", str(tmp_path)).returncode == 0
    page = tmp_path / "lint.md"
    page.write_text("| `gone` | 1 of 1 | 1 of 1 | 1.0 | 2026-01-01 |\n")
    done = run("lint", "--json", "--course", str(tmp_path), "--page", str(page))
    assert re.search(r"^\| `my-first` \| 1 of 1 \| 2 of 2 \| \d+\.\d \|", page.read_text(), re.MULTILINE)
    assert "gone" not in page.read_text()
    (report,) = json.loads(done.stdout)
    assert done.returncode == 1
    assert all("are asked for" in problem for problem in report["problems"])
    assert all(attempt["ok"] for attempt in report["attempts"]), report


def test_an_interrupted_command_says_how_to_go_on():
    code = (
        "import typer\nfrom autograder import cli\ncli.app = typer.Typer()\n"
        "@cli.app.command()\ndef slow():\n    raise KeyboardInterrupt\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130
    assert done.stderr == "\nautograder: interrupted; run the same command to go on.\n"


def test_a_mistake_in_one_exercise_is_a_problem_of_its_report_and_stops_no_other(tmp_path):
    (tmp_path / "exercises").mkdir()
    for name in ("one", "two"):
        run("new", "exercise", name, "--course", str(tmp_path))
    for name in ("one", "two"):
        (tmp_path / f"exercises/{name}/judge.py").write_text("def judge(:\n")
    done = run("lint", "--json", "--course", str(tmp_path))
    assert done.returncode == 1, done.stderr
    reports = json.loads(done.stdout)
    assert [r["exercise"] for r in reports] == ["one", "two"]
    assert all("judge.py cannot be imported: SyntaxError" in r["problems"][-1] for r in reports)


def test_a_process_of_lint_that_is_killed_is_told(tmp_path):
    (tmp_path / "exercises").mkdir()
    run("new", "exercise", "one", "--course", str(tmp_path))
    (tmp_path / "exercises/one/judge.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    done = run("lint", "--jobs", "2", "--course", str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "A process that tried answers was killed" in done.stderr
    assert "try fewer at a time (--jobs)" in done.stderr


def test_a_diagnosis_without_a_sentence_is_named_before_anything_is_graded(tmp_path):
    (tmp_path / "exercises").mkdir()
    run("new", "exercise", "one", "--course", str(tmp_path))
    toml = tmp_path / "exercises/one/exercise.toml"
    toml.write_text(toml.read_text().replace("forgot-to-add =", "forgot ="))
    (problem,) = nameless(Course(tmp_path).exercise("one"))
    assert problem.startswith(
        f"{tmp_path}/exercises/one/wrong/forgot_to_add.py: `forgot-to-add` has no sentence"
    )


def test_a_hint_of_a_check_that_there_is_not_is_named(tmp_path):
    (tmp_path / "exercises").mkdir()
    run("new", "exercise", "one", "--course", str(tmp_path))
    assert mistyped(Course(tmp_path).exercise("one")) == []
    toml = tmp_path / "exercises/one/exercise.toml"
    toml.write_text(toml.read_text().replace('"result: TODO', '"reslt: TODO'))
    (problem,) = mistyped(Course(tmp_path).exercise("one"))
    assert problem.startswith(f"{toml}: a hint begins with `reslt`")


def test_lint_tells_a_wrong_answer_that_is_not_caught(tmp_path):
    (tmp_path / "exercises").mkdir()
    run("new", "exercise", "my-first", "--course", str(tmp_path))
    (wrong,) = (tmp_path / "exercises/my-first/wrong").glob("*.py")
    (right, *_) = (tmp_path / "exercises/my-first/right").glob("*.py")
    head = wrong.read_text().split('"""')[1]
    wrong.write_text(f'"""{head}"""' + right.read_text().split('"""', 2)[2])
    (report,) = json.loads(run("lint", "--json", "--course", str(tmp_path)).stdout)
    problems = [a["problem"] for a in report["attempts"] if a["kind"] == "wrong"]
    assert "got no failure" in problems[0]
