"""What a learner receives, and what must never reach her: solutions, outputs, an overwritten notebook."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest

from autograder.errors import UserError
from autograder.exercise import Course
from autograder.release import release, skeleton


def marks(notebook):
    return {cell.id: cell.metadata.get("nbgrader") for cell in notebook.cells}


def test_the_skeleton_is_a_valid_notebook_without_outputs(exercise):
    notebook = skeleton(exercise)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.all_aboard == {"exercise": "two-sums", "release": "1"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_cells_carry_nbgrader_metadata(exercise):
    notebook = skeleton(exercise)
    found = marks(notebook)
    assert list(found) == [
        "statement-1", "parameters", "given-1", "first", "statement-2", "second", "try-it-1", "check",
    ]  # fmt: skip
    same = {"schema_version": 3, "grade": False, "task": False}
    assert found["first"] == same | {"grade_id": "first", "solution": True, "locked": False}
    assert found["given-1"] == same | {"grade_id": "given-1", "solution": False, "locked": True}
    assert found["check"]["grade"] and found["check"]["locked"] and found["check"]["points"] == 6.5
    assert found["try-it-1"] is None, "a try-it cell is the learner's to play with"
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert not notebook.cells[0].metadata.editable and "editable" not in notebook.cells[3].metadata


def test_answers_are_stubs_and_the_last_cell_checks(exercise):
    cells = {cell.id: cell.source for cell in skeleton(exercise).cells}
    assert cells["second"] == "def second(a):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
    assert cells["check"] == 'import autograder\n\nautograder.check("two-sums")'


def test_a_workspace(course, tmp_path):
    out = tmp_path / "out"
    done = release(course, [], out)
    assert sorted(path.relative_to(out).as_posix() for path in done) == [
        ".course/exercises/two-sums/STRIPPED",
        ".course/exercises/two-sums/drive.py",
        ".course/exercises/two-sums/exercise.md",
        ".course/exercises/two-sums/exercise.toml",
        ".course/exercises/two-sums/judge.py",
        "README.md",
        "exercises/figures/ring.svg",
        "exercises/two-sums.ipynb",
        "lessons/m2-data-parallel/09-two-sums.ipynb",
        "lessons/m2-data-parallel/data/times.csv",
    ]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(done.written)
    assert (done.kept, done.unchanged) == ([], [])


def test_no_solution_leaves_the_course(course, tmp_path):
    release(course, None, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert "SECRET" not in path.read_text(), path
            assert "BEGIN SOLUTION" not in path.read_text(), path


def test_the_workspace_is_a_course_of_its_own(course, tmp_path, exercise):
    release(course, None, tmp_path / "out")
    workspace = Course(tmp_path / "out")
    (copy,) = workspace.exercises()
    assert workspace.is_workspace and copy.stripped
    assert copy.stub() == exercise.stub()
    assert copy.points == exercise.points
    assert nbformat.writes(skeleton(copy)) == nbformat.writes(skeleton(exercise))
    assert copy.variants("wrong") == []
    with pytest.raises(UserError, match="holds no solutions"):
        copy.solution()


def test_releasing_is_deterministic(course, tmp_path):
    release(course, None, tmp_path / "a")
    release(Course(course.root), None, tmp_path / "b")
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_learners_notebook_is_never_overwritten(course, tmp_path):
    out = tmp_path / "out"
    release(course, None, out)
    names = ("exercises/two-sums.ipynb", "lessons/m2-data-parallel/09-two-sums.ipynb", "README.md")
    mine = [out / name for name in names]
    for path in mine:
        path.write_text(path.read_text() + " ")
    (out / ".course/exercises/two-sums/judge.py").write_text("changed")
    done = release(course, None, out)
    assert sorted(done.kept) == sorted(mine)
    assert all(path.read_text().endswith(" ") for path in mine)
    assert done.written == [out / ".course/exercises/two-sums/judge.py"], "ours are brought up to date"
    assert len(done.unchanged) == 6


def test_a_link_in_the_place_of_a_notebook_is_kept(course, tmp_path):
    out = tmp_path / "out"
    (out / "exercises").mkdir(parents=True)
    (out / "exercises/two-sums.ipynb").symlink_to(tmp_path / "nowhere")
    assert release(course, None, out).kept == [out / "exercises/two-sums.ipynb"]
    assert not (tmp_path / "nowhere").exists()


def test_files_of_an_earlier_release_go(course, folder, tmp_path):
    release(course, None, tmp_path / "out")
    (folder / "drive.py").unlink()
    release(course, None, tmp_path / "out")
    assert not (tmp_path / "out/.course/exercises/two-sums/drive.py").exists()


def test_chosen_exercises_bring_their_lessons(course, tmp_path):
    other = course.root / "notebooks" / "m0-start" / "01-boxes"
    other.mkdir(parents=True)
    (other / "lesson.md").write_text("# Boxes\n")
    release(course, ["two-sums", "two-sums"], tmp_path / "some")
    assert [p.name for p in (tmp_path / "some/lessons").rglob("*.ipynb")] == ["09-two-sums.ipynb"]
    release(course, [], tmp_path / "all")
    assert len(list((tmp_path / "all/lessons").rglob("*.ipynb"))) == 2


def test_an_unknown_exercise_writes_nothing(course, tmp_path):
    with pytest.raises(UserError, match="did you mean two-sums"):
        release(course, ["two-sum"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lesson_notebook(course, tmp_path):
    release(course, None, tmp_path / "out")
    path = tmp_path / "out/lessons/m2-data-parallel/09-two-sums.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = notebook.cells[-1].source
    assert "](08-before.ipynb#end)" in text
    assert "](../../exercises/two-sums.ipynb)" in text
    assert "](https://example.org/lesson.md)" in text
    assert "of all ranks and of one rank." in text  # the glossary stays in the book


def test_a_missing_picture_is_named(course, folder, tmp_path):
    (folder / "figures/ring.svg").unlink()
    with pytest.raises(UserError, match="figures/ring.svg"):
        release(course, None, tmp_path / "out")


def test_a_picture_outside_its_folder_is_refused(course, edit, tmp_path):
    edit("exercise.md", "figures/ring.svg", "../../secret.svg")
    (course.root / "secret.svg").write_text("<svg/>")
    with pytest.raises(UserError, match="not a file in its folder"):
        release(course, None, tmp_path / "out")


def test_two_lessons_with_different_files_of_one_name(course, tmp_path):
    other = course.root / "notebooks" / "m2-data-parallel" / "10-next"
    (other / "data").mkdir(parents=True)
    (other / "lesson.md").write_text("# Next\n")
    (other / "data" / "times.csv").write_text("3,4\n")
    with pytest.raises(UserError, match="rename one"):
        release(course, None, tmp_path / "out")


def test_out_may_not_be_the_course(course, folder):
    with pytest.raises(UserError, match="is a course"):
        release(course, None, course.root)


def test_an_unwritable_place_is_a_user_error(course, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        release(course, None, tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_a_user_error(course, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot be written"):
        release(course, None, tmp_path / "out")


def test_no_half_written_file_stays(course, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="No space left"):
        release(course, None, tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_the_file_is_plain_json(course, tmp_path):
    release(course, None, tmp_path / "out")
    text = Path(tmp_path / "out/exercises/two-sums.ipynb").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert json.loads(text)["cells"][3]["source"][0].startswith("def first")
