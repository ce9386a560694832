"""Hostile and clumsy notebooks: only the learner's answers come through, or one clear sentence does."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from pathlib import Path

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autograder.assemble import assemble
from autograder.exercise import load_exercise
from autograder.release import skeleton
from autograder.submission import MAX_BYTES, Rejected, Submission, read_submission, safe_text

FIRST = "def first(a, b):\n    return a + b"
SECOND = "def second(a):\n    return 2 * a"


@pytest.fixture
def notebook(exercise):
    """A released notebook, both answers written, as plain JSON data."""
    made = json.loads(nbformat.writes(skeleton(exercise)))
    cell(made, "first")["source"] = FIRST
    cell(made, "second")["source"] = SECOND.splitlines(keepends=True)
    return made


def cell(notebook, name):
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


@pytest.fixture
def read(tmp_path, exercise):
    """read(data): what becomes of a file with this content (bytes, text, or a notebook to be dumped)."""

    def reader(data) -> Submission:
        path = tmp_path / "submission.ipynb"
        if not isinstance(data, bytes):
            text = data if isinstance(data, str) else json.dumps(data)
            data = text.encode("utf-8", "surrogatepass")
        path.write_bytes(data)
        return read_submission(path, exercise)

    return reader


def refuses(read, data, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        read(data)
    message = str(caught.value)
    assert says in message
    assert message.isprintable() and len(message) <= 400 and message.endswith(".")


# --- what comes through ------------------------------------------------------------------------------


def test_answers_and_nothing_else(read, notebook):
    data = json.dumps(notebook).encode()
    got = read(data)
    assert got.answers == {"first": FIRST, "second": SECOND}
    assert (got.notes, got.missing, got.empty) == ([], [], [])
    assert got.sha256 == hashlib.sha256(data).hexdigest()


def test_outputs_attachments_and_other_metadata_are_ignored(read, notebook):
    notebook["cells"][0]["attachments"] = {"x": "<script>"}
    notebook["metadata"] |= {"kernelspec": {"name": "evil"}, "papermill": 7, "widgets": [[[]]]}
    for one in notebook["cells"]:
        one["outputs"] = [{"output_type": "nonsense", "data": 3}]
        one["id"] = "!! not valid !!"
        one["execution_count"] = "many"
    assert read(notebook).notes == []


def test_nan_in_an_output_costs_nothing(read, notebook):
    notebook["cells"][1]["outputs"] = [{"data": {"application/json": [float("nan"), float("inf")]}}]
    assert "NaN" in json.dumps(notebook)
    assert read(notebook).answers["first"] == FIRST


def test_a_byte_order_mark_costs_nothing(read, notebook):
    assert read(b"\xef\xbb\xbf" + json.dumps(notebook).encode()).missing == []


def test_a_long_number_costs_nothing(read, notebook):
    text = json.dumps(notebook)
    assert read(text[:-1] + ', "x": [1' + "0" * 50_000 + ", 1." + "0" * 50_000 + "1]}").missing == []


def test_the_stub_counts_as_empty(read, notebook, exercise):
    cell(notebook, "first")["source"] = exercise.stub()["first"].replace("\n", "\n\n") + "  \n"
    cell(notebook, "second")["source"] = []
    got = read(notebook)
    assert got.empty == ["first", "second"]
    assert list(got.answers) == ["first", "second"]


def test_line_ends_are_made_equal(read, notebook):
    cell(notebook, "first")["source"] = FIRST.replace("\n", "\r\n")
    cell(notebook, "given-1")["source"] = "import math\r\n"
    got = read(notebook)
    assert (got.answers["first"], got.notes) == (FIRST, [])


@pytest.mark.parametrize("bad", ["\x00", "\ud800"])
def test_characters_no_file_can_hold_are_replaced(read, notebook, bad, exercise):
    cell(notebook, "first")["source"] = f'text = "{bad}"'
    got = read(notebook)
    assert got.answers["first"] == 'text = "\ufffd"'
    assert "`first` held characters" in got.notes[0]
    nbformat.writes(assemble(exercise, got)).encode()


# --- what is put right, with a note ------------------------------------------------------------------


def test_a_deleted_answer_is_missing(read, notebook):
    notebook["cells"].remove(cell(notebook, "first"))
    got = read(notebook)
    assert (got.missing, list(got.answers)) == (["first"], ["second"])
    assert got.notes == ["The answer cell `first` is missing; it counts as not answered."]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cell_type": "markdown"}, "from code to markdown"),
        ({"cell_type": "raw"}, "from code to raw"),
        ({"cell_type": "\x1b[31m"}, "to another kind of cell"),
        ({"source": 7}, "holds no text"),
        ({"source": ["a", None]}, "holds no text"),
        ({"source": None}, "holds no text"),
    ],
)
def test_an_answer_that_is_none_any_more(read, notebook, change, says):
    cell(notebook, "first").update(change)
    got = read(notebook)
    assert got.missing == ["first"]
    assert says in got.notes[0]


def test_all_answers_retyped_is_graded_not_refused(read, notebook):
    for name in ("first", "second"):
        cell(notebook, name)["cell_type"] = "markdown"
    assert read(notebook).missing == ["first", "second"]


@pytest.mark.parametrize("solution", [False, 1, "true", None])
def test_an_answer_must_be_marked_as_one(read, notebook, solution):
    cell(notebook, "first")["metadata"]["nbgrader"]["solution"] = solution
    got = read(notebook)
    assert got.missing == ["first"]
    assert "no longer marked as an answer" in got.notes[0]


def test_of_several_answers_the_last_that_was_worked_on_counts(read, notebook, exercise):
    again = copy.deepcopy(cell(notebook, "first"))
    again["source"] = "x = 1"
    stub = copy.deepcopy(again)
    stub["source"] = exercise.stub()["first"]
    notebook["cells"] += [again, stub]
    got = read(notebook)
    assert got.answers["first"] == "x = 1"
    assert any("`first` is there 3 times; the last one that differs" in note for note in got.notes)


def test_of_several_stubs_the_first_counts(read, notebook, exercise):
    cell(notebook, "first")["source"] = exercise.stub()["first"]
    notebook["cells"].append(copy.deepcopy(cell(notebook, "first")))
    got = read(notebook)
    assert got.empty == ["first"]
    assert any("the first was graded" in note for note in got.notes)


def test_the_frame_is_noted_and_has_no_effect(read, notebook, exercise):
    cell(notebook, "given-1")["source"] = "import evil"
    cell(notebook, "statement-2")["cell_type"] = "code"
    notebook["cells"].append(copy.deepcopy(cell(notebook, "parameters")))
    cell(notebook, "check")["metadata"]["nbgrader"]["points"] = 1000
    cell(notebook, "second")["metadata"]["nbgrader"]["grade"] = True
    notebook["cells"].remove(cell(notebook, "statement-1"))
    notebook["cells"] += [
        {"cell_type": "code", "source": "evil = 1", "metadata": {"tags": ["injected-parameters"]}},
        {
            "cell_type": "code",
            "source": "evil",
            "metadata": {"nbgrader": {"grade_id": "x", "solution": True}},
        },
    ]
    got = read(notebook)
    assert got.notes == [
        "The locked cell `statement-1` was deleted; this had no effect on the grade.",
        "The locked cell `parameters` is there 2 times; this had no effect on the grade.",
        "The locked cell `given-1` was edited; this had no effect on the grade.",
        "The locked cell `statement-2` was edited; this had no effect on the grade.",
        "The grading marks of the cell `second` were changed; this had no effect on the grade.",
        "The grading marks of the cell `check` were changed; this had no effect on the grade.",
        "2 code cells were added to the notebook; "
        "only the answer cells are run, so this had no effect on the grade.",
    ]
    clean = assemble(exercise, Submission({"first": FIRST, "second": SECOND}))
    assert assemble(exercise, got) == clean


def test_ordinary_work_is_not_noted(read, notebook):
    """Playing in a try-it cell, writing notes, the blank cell Jupyter adds, another kernel."""
    cell(notebook, "try-it-1")["source"] = "first(3, 4)"
    notebook["cells"] += [
        {"cell_type": "markdown", "source": "my notes", "metadata": {}},
        {"cell_type": "code", "source": "", "metadata": {}},
    ]
    notebook["metadata"]["kernelspec"]["name"] = "my-env"
    assert read(notebook).notes == []


def test_missing_fields_are_no_crash(read, notebook):
    notebook["cells"] += [{}, {"metadata": None}, {"metadata": {"nbgrader": []}}, {"metadata": {"tags": 3}}]
    del notebook["metadata"]
    assert read(notebook).missing == []


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "The file is empty"),
        (b" \n", "The file is empty"),
        (b"{\n ", "damaged: it breaks off, or holds what no notebook holds, at line 2"),
        (b'{"a": 1} x', "damaged"),
        (b"import torch\n", "only named like one"),
        (b"PK\x03\x04" + b"\xff" * 30, "only named like one"),
        (b"\x1b[31m\xc3\x28", "only named like one"),
        (b'{"\xc3\x28": 1}', "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"[]", "not a notebook"),
        (b'"x"', "not a notebook"),
        (b"{}", "does not say its format"),
        (b'{"nbformat": "4"}', "does not say its format"),
        (b'{"nbformat": true}', "does not say its format"),
        (b'{"nbformat": 3, "worksheets": []}', "nbconvert --to notebook --nbformat 4"),
        (b'{"nbformat": -7}', "old format"),
        (b'{"nbformat": 5, "cells": []}', "only format 4 is read"),
        (b'{"nbformat": 4}', "no list of cells"),
        (b'{"nbformat": 4, "cells": {}}', "no list of cells"),
        (b'{"nbformat": 4, "cells": [7]}', "Cell 1"),
        (b'{"nbformat": 4, "cells": []}', "not a released notebook of this exercise"),
        (b'{"nbformat": 4, "cells": [], "cells": []}', "the key `cells` twice"),
        (b'{"\\u001b[2J": 1, "\\u001b[2J": 1}', "the key `` twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
    ],
)
def test_no_notebook(read, data, says):
    refuses(read, data, says)


def test_another_exercises_notebook_is_named(read, notebook):
    notebook["metadata"]["all_aboard"]["exercise"] = "three-sums\x1b]0;title\x07"
    refuses(read, notebook, "of the exercise three-sums, not of two-sums")


def test_too_many_cells(read, notebook):
    notebook["cells"] += [{}] * 500
    refuses(read, notebook, "508 cells")


def test_too_much_code(read, notebook):
    cell(notebook, "first")["source"] = "x" * 70_000
    refuses(read, notebook, "64 KiB at most")


def test_too_large_a_file(read):
    refuses(read, b" " * (MAX_BYTES + 1), "larger than 10 MB")


def test_a_sparse_giant_is_refused_without_reading_it(tmp_path, exercise):
    with open(tmp_path / "big.ipynb", "wb") as file:
        file.truncate(10**12)
    with pytest.raises(Rejected, match="larger than"):
        read_submission(tmp_path / "big.ipynb", exercise)


def test_a_file_that_only_looks_empty(exercise):
    with pytest.raises(Rejected):
        read_submission(Path("/proc/self/status"), exercise)


def test_links_are_not_followed(tmp_path, exercise, notebook):
    (tmp_path / "real.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "real.ipynb")
    with pytest.raises(Rejected, match="is a link"):
        read_submission(tmp_path / "link.ipynb", exercise)


def test_below_a_trusted_folder_no_part_may_be_a_link(tmp_path, exercise, notebook):
    (tmp_path / "all" / "ada").mkdir(parents=True)
    (tmp_path / "all" / "ada" / "two-sums.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "all" / "eve").symlink_to(tmp_path / "all" / "ada")
    all_of_them = tmp_path / "all"
    assert read_submission(all_of_them / "ada" / "two-sums.ipynb", exercise, under=all_of_them).missing == []
    for bad in ("eve/two-sums.ipynb", "ada/../ada/two-sums.ipynb", "../all/ada/two-sums.ipynb"):
        with pytest.raises(Rejected):
            read_submission(all_of_them / bad, exercise, under=all_of_them)
    with pytest.raises(Rejected, match="path"):
        read_submission(tmp_path / "elsewhere.ipynb", exercise, under=all_of_them)


def test_only_regular_files(tmp_path, exercise):
    os.mkfifo(tmp_path / "fifo.ipynb")
    (tmp_path / "folder.ipynb").mkdir()
    for path in (tmp_path / "fifo.ipynb", tmp_path / "folder.ipynb", Path("/dev/zero")):
        with pytest.raises(Rejected, match="not a regular file"):
            read_submission(path, exercise)


def test_a_file_that_is_not_there(tmp_path, exercise):
    for name in ("nothing.ipynb", "nul\x00.ipynb"):
        with pytest.raises(Rejected):
            read_submission(tmp_path / name, exercise)


def test_hostile_keys_cost_little_time(read):
    keys = ",".join(f'"{n}":0' for n in range(300_000))
    begun = time.perf_counter()
    refuses(read, "{" + keys + ',"299999":0}', "twice")
    assert time.perf_counter() - begun < 5


def test_no_handle_stays_open(tmp_path, exercise, notebook, read):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read(notebook)
        with pytest.raises(Rejected):
            read_submission(tmp_path, exercise)
        read_submission(tmp_path / "submission.ipynb", exercise, under=tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07click\x1b]8;;\x07", "click"),
        ("two\nlines\ttab", "two lines tab"),
        ("abc\u202edef", "abc def"),
        ("é ünï 日本", "é ünï 日本"),
        ("x" * 100, "x" * 79 + "…"),
        ("\ud800\x00\x9b31m", ""),
    ],
)
def test_safe_text(text, safe):
    assert safe_text(text) == safe


# --- fuzz --------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["code", "markdown", "first", "check", "two-sums", 4, "\x00", "\ud800", "\x1b[2J"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "nbgrader", "grade_id", "solution", "source", "tags", "points"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def places(data, path=()):
    """Every path into nested lists and dicts."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def broken(draw, sound):
    """A released notebook with up to five things replaced, deleted or doubled, at times bytes changed too."""
    data = copy.deepcopy(sound)
    for _ in range(draw(st.integers(0, 5))):
        paths = list(places(data))
        if not paths:
            break
        *path, key = draw(st.sampled_from(paths))
        inner = data
        for step in path:
            inner = inner[step]
        action = draw(st.sampled_from(["replace", "delete", "double"]))
        if action == "replace":
            inner[key] = draw(JUNK)
        elif action == "delete":
            del inner[key]
        elif isinstance(inner, list):
            inner.insert(draw(st.integers(0, len(inner))), copy.deepcopy(inner[key]))
    raw = bytearray(json.dumps(data), "ascii")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 4]))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_course):
    """The tiny exercise, once for all fuzz examples."""
    root = tmp_path_factory.mktemp("fuzz")
    made = load_exercise(tiny_course(root))
    return made, json.loads(nbformat.writes(skeleton(made))), root / "submission.ipynb"


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_comes_in_a_submission_or_a_refusal_comes_out(tiny, data):
    exercise, sound, path = tiny
    path.write_bytes(data.draw(broken(sound)))
    try:
        got = read_submission(path, exercise)
    except Rejected as refused:
        assert str(refused).isprintable()
        return
    assert sorted([*got.answers, *got.missing]) == ["first", "second"]
    assert set(got.empty) <= set(got.answers)
    assert all(note.isprintable() and len(note) < 300 for note in got.notes) and len(got.notes) < 50
    made = assemble(exercise, got)
    nbformat.validate(made)
    nbformat.writes(made).encode()
    ours = assemble(exercise, Submission({})).cells
    assert [one for one in made.cells if one.id not in got.answers] == [
        one for one in ours if one.id not in got.answers
    ], "nothing but answers differs from the trusted skeleton"


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=st.binary(max_size=60) | JUNK.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_no_notebook_is_refused(tiny, raw):
    exercise, _, path = tiny
    path.write_bytes(raw)
    with pytest.raises(Rejected):
        read_submission(path, exercise)
