"""Commands as one types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from aboard.cluster import means

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
