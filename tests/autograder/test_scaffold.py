"""`autograder new`: what is made works as it is, and nothing that exists is touched."""

from __future__ import annotations

import re

import pytest

from aboard.jobs.description import Job
from aboard.jobs.render import render
from aboard.jobs.rules import refusals
from aboard.sites.site import read as read_site
from autograder.assemble import assemble
from autograder.errors import UserError
from autograder.exercise import Course
from autograder.judge import load_judge, run_checks
from autograder.learner import HereAndNow
from autograder.release import release
from autograder.scaffold import new
from autograder.submission import Submission


def test_a_new_exercise_loads_and_can_be_released(tmp_path):
    course = Course(tmp_path)
    made = new("exercise", "my-exercise", course)
    assert all(path.is_file() for path in made)
    exercise = course.exercise("my-exercise")
    assert (exercise.number, exercise.title, exercise.answer_ids()) == (1, "My exercise", ["my-sum"])
    (wrong,) = exercise.variants("wrong")
    (right,) = exercise.variants("right")
    assert set(wrong.fails) == set(exercise.points)
    assert set(wrong.fails.values()) == set(exercise.diagnoses)
    for source in (*wrong.answers.values(), *right.answers.values(), exercise.stub()["my-sum"]):
        compile(source, "answer", "exec")
    assert "TODO" in (exercise.folder / "exercise.md").read_text()
    release(course, None, tmp_path / "out")


def test_a_new_exercise_finds_its_lesson_and_number(course):
    new("lesson", "m3-sharding/14-my-exercise", course)
    new("lesson", "m3-sharding/15-other", course)
    new("exercise", "my-exercise", course)
    made = course.exercise("my-exercise")
    assert (made.number, made.module, made.lesson) == (10, "m3-sharding", "14-my-exercise")


def test_a_new_exercise_is_judged_as_it_says(tmp_path):
    """Solution and right/ earn every point, wrong/ fails as declared, the stub is still to do."""
    course = Course(tmp_path)
    new("exercise", "my-exercise", course)
    exercise = course.exercise("my-exercise")
    judge = load_judge(exercise)
    expected = [(exercise.solution(), {}), (exercise.stub(), {"result": "not-done"})]
    expected += [(one.answers, one.fails) for kind in ("right", "wrong") for one in exercise.variants(kind)]
    for answers, fails in expected:
        names: dict[str, object] = {"__name__": "__main__"}
        for cell in assemble(exercise, Submission(answers)).cells:
            if cell.cell_type == "code":
                exec(cell.source, names)
        results = run_checks(judge, HereAndNow(names, {}), seed="s", wall_s=60, local=True)
        assert {one.id: one.diagnosis for one in results if one.status != "pass"} == fails


def test_a_new_lesson_has_the_sections_of_every_lesson(tmp_path):
    course = Course(tmp_path)
    (path,) = new("lesson", "m2-data-parallel/09-ring-all-reduce", course)
    (lesson,) = course.lessons()
    assert (lesson.path, lesson.title) == (path, "Ring all reduce")
    text = path.read_text()
    order = [
        "**Goal.**", "**Needs.**", "cloud habit", "The idea", "Run it", "Predict", "Measure", "stops working",
        "Exercise", "Wrong answers", "Solution", "On your machine", "Read next",
    ]  # fmt: skip
    positions = [text.index(word) for word in order]
    assert positions == sorted(positions)
    release(course, None, tmp_path / "out")


def test_a_new_site_is_a_profile_and_so_is_all_that_it_shows(tmp_path):
    """As it is; and with every line that is commented out, and a source for each, as a machine that takes jobs."""
    (path,) = new("site", "my-machine", Course(tmp_path))
    assert path == tmp_path / "aboard/sites/my-machine/site.toml"
    site = read_site(path)
    assert (site.id, site.status) == ("my-machine", "planned") and "gpu_nodes" in site.unknown()
    text = re.sub(r"^# (?=(\w+ = |\[))", "", path.read_text(), flags=re.MULTILINE).replace(
        '"planned"', '"production"'
    )
    keys = set(re.findall(r"^(\w+) = ", text[: text.index("[[partitions]]")], re.MULTILINE)) - {
        "id",
        "name",
        "status",
        "gpu_nodes",
    }
    text += "".join(f'{key} = "unverified"\n' for key in (*sorted(keys), "partitions", "storage", "request"))
    path.write_text(text)
    whole = read_site(path)
    assert (
        whole.request.lines[0].place == "env" and whole.partitions[0].max_nodes_per_job == 64 and whole.traps
    )
    assert "#SBATCH --gres=gpu:4" in render(Job(script="t.py", hours=1, account="project_123"), whole)
    assert "allows 64" in " ".join(
        refusals(Job(script="t.py", hours=1, nodes=65, account="project_123"), whole)
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("exercise", ""),
        ("exercise", "../up"),
        ("exercise", "Upper"),
        ("exercise", "a b"),
        ("exercise", "a/b"),
        ("exercise", "-a"),
        ("exercise", "x" * 61),
        ("exercise", "x\n"),
        ("lesson", "no-module"),
        ("lesson", "a/b/c"),
        ("lesson", "../b"),
        ("site", ".hidden"),
        ("course", "x"),
    ],
)
def test_bad_names_are_refused(tmp_path, kind, name):
    with pytest.raises(UserError):
        new(kind, name, Course(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_exists_is_touched(course, folder):
    before = sorted(course.root.rglob("*"))
    with pytest.raises(UserError, match="exists already"):
        new("exercise", "two-sums", course)
    assert sorted(course.root.rglob("*")) == before


def test_a_failure_leaves_no_half_folder(tmp_path):
    (tmp_path / "exercises").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be made"):
        new("exercise", "my-exercise", Course(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["exercises"]


def test_a_workspace_is_no_place_for_authors(course, tmp_path):
    release(course, None, tmp_path / "out")
    with pytest.raises(UserError, match="learner's workspace"):
        new("exercise", "my-exercise", Course(tmp_path / "out"))
