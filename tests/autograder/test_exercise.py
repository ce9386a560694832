"""What an author sees: a good folder loads, a bad one is an error that names the file and the key."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from autograder.errors import UserError
from autograder.exercise import Course, Limits, load_exercise


def test_a_good_folder_loads(exercise):
    assert exercise.id == "two-sums"
    assert exercise.points == {"first": 4.0, "second": 2.5}
    assert exercise.max_score == 6.5
    assert exercise.limits == Limits()
    assert exercise.hints == ["Add.", "Add again."]
    assert exercise.answer_ids() == ["first", "second"]
    assert not exercise.stripped


def test_solution_and_stub(exercise):
    head = 'def first(a, b):\n    """a + b"""\n'
    assert exercise.solution()["first"] == head + "    total = a + b\n    return total"
    assert exercise.stub()["first"] == head + "    # YOUR CODE HERE\n    raise NotImplementedError()"


def test_the_source_is_a_fresh_copy_each_time(exercise):
    exercise.source().cells.clear()
    assert len(exercise.source().cells) == 7


def test_an_exercise_can_be_sent_to_another_process(exercise):
    exercise.answer_ids()
    assert pickle.loads(pickle.dumps(exercise)).stub() == exercise.stub()


def test_several_solution_regions_in_one_cell(exercise, edit, folder):
    edit(
        "exercise.md",
        "    return first(a, a)  # SECRET\n    ### END SOLUTION",
        "    b = a\n    ### END SOLUTION\n    c = b\n    if c:\n"
        "        ### BEGIN SOLUTION\n        return c\n        ### END SOLUTION",
    )
    assert load_exercise(folder).stub()["second"] == (
        "def second(a):\n    # YOUR CODE HERE\n    raise NotImplementedError()\n    c = b\n    if c:\n"
        "        # YOUR CODE HERE\n        raise NotImplementedError()"
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('title = "Two sums"', "title = ", "line 2"),
        ('title = "Two sums"', "", "the key `title` is missing"),
        ('title = "Two sums"', 'titel = "Two sums"', "unknown key `titel`; did you mean title"),
        ('title = "Two sums"', "title = 3", "`title` must be text, not 3"),
        ("minutes = 20", "minutes = true", "`minutes` must be a whole number"),
        ("minutes = 20", "minutes = 0", "`minutes` must be at least 1"),
        ('id = "two-sums"', 'id = "three-sums"', "make them equal"),
        ('"Add.", ', '" ", ', "entry 1 of `hints`"),
        ('["Add.", "Add again."]', "[]", "`hints` is empty"),
        ('["adds"]', "[7]", "entry 1 of `skills`"),
        ('"09-two-sums"', '"../09"', "`lesson` must be lower-case"),
        ("first = 4", "first = 0", "`points.first` must be a number above 0"),
        ("first = 4", "first = nan", "`points.first` must be a number above 0"),
        ("first = 4", 'first = "4"', "`points.first` must be a number above 0"),
        ("first = 4", '"first one" = 4', "`points.first one` must be the name of a function"),
        ("first = 4\nsecond = 2.5", "", "`points` names no check"),
        ('"One too many."', '""', "`diagnoses.off-by-one`"),
        (
            "[diagnoses]",
            "[limits]\nwalls = 3\n[diagnoses]",
            "unknown key `limits.walls`; did you mean wall_s",
        ),
        (
            "[diagnoses]",
            "[limits]\nranks = 2.5\n[diagnoses]",
            "`limits.ranks` must be a whole number above 0",
        ),
    ],
)
def test_a_mistake_in_exercise_toml_names_file_and_key(folder, edit, old, new, says):
    edit("exercise.toml", old, new)
    with pytest.raises(UserError) as caught:
        load_exercise(folder)
    assert says in str(caught.value)
    assert str(folder / "exercise.toml") in str(caught.value)


def test_limits_are_read(folder, edit):
    edit("exercise.toml", "[diagnoses]", "[limits]\nwall_s = 2.5\nanswer_kib = 1\n[diagnoses]")
    assert load_exercise(folder).limits == Limits(wall_s=2.5, answer_kib=1)


@pytest.mark.parametrize("name", ["exercise.toml", "exercise.md", "judge.py"])
def test_a_missing_file_is_named(course, folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        course.exercises()


def test_a_file_that_is_not_text(folder):
    (folder / "exercise.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        load_exercise(folder)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    ### BEGIN SOLUTION\n    total", "    total", "without its `### BEGIN SOLUTION`"),
        ("    return total\n    ### END SOLUTION\n", "    return total\n", "without its `### END SOLUTION`"),
        ("    total = a + b\n    return total\n", "", "nothing between"),
        ("    ### BEGIN SOLUTION\n    total", "    ### begin solution\n    total", "must be written exactly"),
        (":answer: second", ":answer: first", "used twice"),
        (":answer: second", ":answer: check", "one that released cells use"),
        (":answer: second", ":answer: given-1", "one that released cells use"),
        (":answer: second", ":answer: Second One", "must be lower-case"),
        (":answer: second", ":answer: 2", "must be lower-case"),
        (":answer: second", ":answer: second\n:tags: [try-it]", "cannot also be tagged"),
        (":answer: second\n", "", "is no answer cell"),
        ("[try-it]", "[parameters]", "2 cells tagged `parameters`"),
        ("[try-it]", "try-it", "cannot be read as a MyST notebook"),
        (":answer: second", ":answer: [", "cannot be read as a MyST notebook"),
    ],
)
def test_a_mistake_in_exercise_md_names_the_file(folder, edit, old, new, says):
    edit("exercise.md", old, new)
    with pytest.raises(UserError) as caught:
        load_exercise(folder).source()
    assert says in str(caught.value)
    assert str(folder / "exercise.md") in str(caught.value)


def test_an_answer_cell_needs_a_solution(folder, edit):
    edit(
        "exercise.md",
        "    ### BEGIN SOLUTION\n    total = a + b\n    return total\n    ### END SOLUTION\n",
        "",
    )
    with pytest.raises(UserError, match="`first` has no solution"):
        load_exercise(folder).answer_ids()


def test_a_notebook_without_answers(folder):
    (folder / "exercise.md").write_text("# Nothing\n")
    with pytest.raises(UserError, match="no answer cell"):
        load_exercise(folder).answer_ids()


def test_variants(exercise):
    (wrong,) = exercise.variants("wrong")
    assert (wrong.name, wrong.about) == ("off_by_one", "Adds one too many, as one does.")
    assert wrong.fails == {"first": "off-by-one", "second": "off-by-one"}
    assert wrong.answers["first"] == "def first(a, b):\n    return a + b + 1"
    (right,) = exercise.variants("right")
    assert right.fails == {}
    assert right.answers["second"] == "def second(a):\n    return 2 * a"
    assert right.answers["first"] == exercise.solution()["first"], (
        "a cell not given holds the reference solution"
    )


def test_one_answer_needs_no_marker(folder, edit):
    text = (folder / "exercise.md").read_text()
    start = text.index("Now the other.")
    (folder / "exercise.md").write_text(text[:start])
    (folder / "wrong" / "off_by_one.py").write_text(
        '"""Off.\n\nfails: first as off-by-one\n"""\n\n%time 1\ndef first(a, b):\n    return 0\n'
    )
    (wrong,) = load_exercise(folder).variants("wrong")
    assert wrong.answers == {"first": "%time 1\ndef first(a, b):\n    return 0"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# %% first\nx = 1\n", "must begin with a docstring"),
        ('"""fails: first as off-by-one"""\n# %% first\nx\n', "must begin with a paragraph"),
        ('"""Off."""\n# %% first\nx\n', "needs a line `fails:"),
        ('"""Off.\n\nfails: first\n"""\n# %% first\nx\n', "must read `fails:"),
        ('"""Off.\n\nfails: frist as a\n"""\n# %% first\nx\n', "no check `frist`; did you mean first"),
        ('"""Off.\n\nfails: first as a\nfails: first as b\n"""\n# %% first\nx\n', "named twice"),
        ('"""Off.\n\nfails: first as a\n"""\nx = 1\n', "mark each answer"),
        ('"""Off.\n\nfails: first as a\n"""\nx = 1\n# %% first\nx\n', "before the first"),
        ('"""Off.\n\nfails: first as a\n"""\n# %% third\nx\n', "names no answer cell"),
        ('"""Off.\n\nfails: first as a\n"""\n# %% first\nx\n# %% first\ny\n', "given twice"),
        ('"""Off.\n\nfails: first as a\n"""\n# %% first\n\n', "is empty"),
    ],
)
def test_a_bad_variant_names_its_file(folder, exercise, text, says):
    (folder / "wrong" / "off_by_one.py").write_text(text)
    with pytest.raises(UserError) as caught:
        exercise.variants("wrong")
    assert says in str(caught.value)
    assert "off_by_one.py" in str(caught.value)


def test_a_right_variant_fails_nothing(folder, exercise):
    (folder / "right" / "doubled.py").write_text(
        '"""Two.\n\nfails: first as off-by-one\n"""\n# %% first\nx\n'
    )
    with pytest.raises(UserError, match="passes every check"):
        exercise.variants("right")


def test_course_lists_and_finds(course, folder):
    assert [exercise.id for exercise in course.exercises()] == ["two-sums"]
    assert course.exercise("two-sums").title == "Two sums"
    with pytest.raises(UserError, match="did you mean two-sums"):
        course.exercise("two-sum")
    with pytest.raises(UserError, match="no exercise"):
        course.exercise("../exercises/two-sums")
    (lesson,) = course.lessons()
    assert (lesson.module, lesson.name, lesson.title) == (
        "m2-data-parallel",
        "09-two-sums",
        "The first heading",
    )


def test_one_bad_folder_does_not_hide_the_others(course, folder):
    bad = folder.parent / "broken"
    bad.mkdir()
    (bad / "judge.py").write_text("")
    assert course.exercise("two-sums").number == 9
    with pytest.raises(UserError, match="broken"):
        course.exercises()


def test_other_folders_are_no_exercises(course, folder):
    (folder.parent / "__pycache__").mkdir()
    (folder.parent / "README.md").write_text("about")
    assert len(course.exercises()) == 1


def test_find(course, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder / "wrong")
    assert Course.find().root == course.root
    assert Course.find(tmp_path).root == tmp_path
    with pytest.raises(UserError, match="no folder"):
        Course.find(tmp_path / "nowhere")
    workspace = tmp_path / "workspace"
    (workspace / ".course" / "exercises").mkdir(parents=True)
    (workspace / "exercises").mkdir()
    monkeypatch.chdir(workspace / "exercises")
    assert Course.find().root == workspace
    assert Course.find().is_workspace
    assert not course.is_workspace


def test_find_falls_back_to_the_course_of_this_package(tmp_path, monkeypatch, folder):
    import autograder.exercise as module

    monkeypatch.setattr(module, "__file__", str(tmp_path / "course" / "autograder" / "exercise.py"))
    monkeypatch.chdir(tmp_path)
    assert Course.find().root == (tmp_path / "course").resolve()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "other" / "autograder" / "exercise.py"))
    with pytest.raises(UserError, match="--course DIR"):
        Course.find()


def test_loading_is_light(folder):
    code = (
        "import sys; from pathlib import Path; from autograder.exercise import Course;"
        "import autograder.release, autograder.submission, autograder.assemble, autograder.scaffold;"
        f"Course(Path({str(folder.parent.parent)!r})).exercises();"
        "heavy = {'torch', 'numpy', 'jupytext', 'nbformat', 'autograder.judge'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
