"""A released notebook, run as a learner runs it: in a Jupyter kernel, in her workspace."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from autograder.exercise import Course
from autograder.release import release

ROOT = Path(__file__).parents[2]


def shown(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """The check cell's output as (text, HTML)."""
    output = notebook.cells[-1].outputs[-1]
    return output.data["text/plain"], output.data["text/html"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("workspace")
    release(Course(ROOT), ["ring-all-reduce"], out)
    return out


def run(workspace: Path, answers: dict[str, str]) -> nbformat.NotebookNode:
    notebook = nbformat.read(workspace / "exercises" / "ring-all-reduce.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    client = NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(workspace / "exercises")}}
    )
    return client.execute()


def test_the_last_cell_says_that_all_is_right_and_the_try_it_cell_draws(workspace):
    done = run(workspace, Course(ROOT).exercise("ring-all-reduce").solution())
    text, html = shown(done)
    assert "10" in text and "10" in html
    pictures = [o for c in done.cells for o in c.get("outputs", []) if "image/svg+xml" in o.get("data", {})]
    assert pictures, "the timeline of the four ranks"


def test_the_last_cell_names_the_mistake_and_gives_a_hint(workspace):
    exercise = Course(ROOT).exercise("ring-all-reduce")
    wrong = next(v for v in exercise.variants("wrong") if v.name == "pair_exchange")
    text, html = shown(run(workspace, dict(wrong.answers)))
    for words in (text, html):
        assert "one neighbour" in words
        assert "Whom does a rank's number reach after one step" in words.replace("&#39;", "'")


def test_the_workspace_holds_no_solution(workspace):
    solution = Course(ROOT).exercise("ring-all-reduce").solution()["ring"]
    telling = "mine += arriving"
    assert telling in solution
    for path in workspace.rglob("*"):
        if path.is_file() and "lessons" not in path.parts:
            assert telling not in path.read_text(errors="replace"), path
