"""The notebook that is run: ours, but for the answers."""

from __future__ import annotations

import nbformat

from autograder.assemble import assemble
from autograder.exercise import load_exercise
from autograder.release import release
from autograder.submission import Submission, read_submission


def sources(notebook):
    return {cell.id: cell.source for cell in notebook.cells}


def test_answers_go_into_the_skeleton(exercise):
    made = assemble(exercise, Submission({"first": "%time x = 1\n!ls", "second": "y = 2"}))
    nbformat.validate(made)
    assert list(sources(made)) == ["statement-1", "parameters", "given-1", "first", "statement-2", "second"]
    assert sources(made)["first"] == "%time x = 1\n!ls", "magics stay as they are"


def test_a_missing_answer_is_the_stub(exercise):
    assert sources(assemble(exercise, Submission({"second": "y = 2"})))["first"] == exercise.stub()["first"]


def test_metadata_says_which_cells_are_answers(exercise):
    made = assemble(exercise, Submission({}))
    assert [cell.metadata for cell in made.cells if cell.cell_type == "code"] == [
        {"all_aboard": {}, "tags": ["parameters"]},
        {"all_aboard": {}},
        {"all_aboard": {"answer": "first"}},
        {"all_aboard": {"answer": "second"}},
    ]
    assert made.metadata.all_aboard.exercise == "two-sums"
    assert made.metadata.kernelspec.name == "python3"


def test_only_answers_of_the_exercise_are_used(exercise):
    made = assemble(exercise, Submission({"given-1": "import evil", "check": "evil", "third": "evil"}))
    assert "evil" not in str(made)


def test_the_same_notebook_from_the_course_and_from_a_workspace(course, exercise, tmp_path):
    release(course, None, tmp_path / "out")
    copy = load_exercise(tmp_path / "out/.course/exercises/two-sums")
    submission = read_submission(tmp_path / "out/exercises/two-sums.ipynb", copy)
    assert assemble(copy, submission) == assemble(exercise, submission)


def test_the_reference_solution_runs(exercise):
    names: dict[str, object] = {}
    for cell in assemble(exercise, Submission(exercise.solution())).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    assert names["second"](4) == 8
