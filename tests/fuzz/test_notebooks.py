"""The reader of notebooks, given notebooks that have been changed in every way: an answer or a refusal, and quickly."""

from __future__ import annotations

import copy
import json

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.assemble import assemble
from autograder.exercise import load_exercise
from autograder.release import skeleton
from autograder.submission import Rejected, Submission, read_submission
from tests.autograder.conftest import write_course
from tests.fuzz.conftest import PLAIN, at, at_most, damaged, examples, nested, places

KEYS = [
    "metadata",
    "nbgrader",
    "grade_id",
    "solution",
    "source",
    "tags",
    "points",
    "cells",
    "nbformat",
    "all_aboard",
]
JUNK = nested(
    PLAIN | st.sampled_from(["first", "second", "check", "two-sums", "code", 4]), st.sampled_from(KEYS)
)
# JSON that no Python value is written as, or not by everybody: put in as text.
TOKENS = [
    "NaN", "-Infinity", "1e999", "-0", "9" * 5000, "1." + "0" * 5000, "1E" + "9" * 300, "[" * 3000 + "]" * 3000,
    '{"a":' * 2000 + "1" + "}" * 2000, "[" * 900 + "]" * 900, '"\\ud800"', '"\\u0000\\udfff\\ud83d"', '"\\x"', '"\t"',
    "{" + ",".join(f'"{n}":{n}' for n in range(3000)) + "}", '{"source":"a","source":"b"}', "nul", "", "[1,]", "{'a':1}",
    '"' + "\\n" * 40_000 + '"', "[" + "[]," * 30_000 + "[]]",
]  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An exercise, a sound notebook of it, and where to put changed ones."""
    root = tmp_path_factory.mktemp("fuzz")
    made = load_exercise(write_course(root))
    sound = json.loads(nbformat.writes(skeleton(made)))
    clean = assemble(made, Submission({})).cells
    return made, sound, root / "submission.ipynb", clean


@st.composite
def changed(draw, sound):
    """A sound notebook with up to six changes: values, keys, whole branches, JSON of another kind, at last bytes."""
    data, tokens = copy.deepcopy(sound), {}
    for number in range(draw(st.integers(0, 6))):
        paths = list(places(data))
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        inner, key = at(data, path[:-1]), path[-1]
        change = draw(
            st.sampled_from(["junk", "junk", "token", "delete", "double", "graft", "wrap", "many", "key"])
        )
        if change == "junk":
            inner[key] = draw(JUNK)
        elif change == "token":
            inner[key] = f"@{number}@"
            tokens[f'"@{number}@"'] = draw(st.sampled_from(TOKENS))
        elif change == "delete":
            del inner[key]
        elif change == "double" and isinstance(inner, list):
            inner.insert(draw(st.integers(0, len(inner))), copy.deepcopy(inner[key]))
        elif change == "graft":
            inner[key] = copy.deepcopy(at(data, draw(st.sampled_from(paths))))
        elif change == "wrap":
            inner[key] = draw(st.sampled_from([[inner[key]], {"source": inner[key]}, [inner[key]] * 3]))
        elif change == "many" and isinstance(inner, list):
            inner += [inner[key]] * draw(st.sampled_from([2, 490, 600]))
        elif change == "key" and isinstance(inner, dict):
            inner[draw(st.sampled_from(KEYS))] = inner.pop(key)
        if len(json.dumps(data)) > 2_000_000:
            break
    text = json.dumps(data, ensure_ascii=draw(st.booleans()))
    for name, token in tokens.items():
        text = text.replace(name, token)
    encoding = draw(st.sampled_from(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "latin-1"]))
    return damaged(draw, text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace"))


@examples(700)
@given(data=st.data())
def test_a_changed_notebook_is_read_or_refused(tiny, data):
    exercise, sound, path, clean = tiny
    path.write_bytes(data.draw(changed(sound)))
    with at_most(seconds=2):
        try:
            got = read_submission(path, exercise)
        except Rejected as refused:
            assert str(refused).isprintable() and 0 < len(str(refused)) <= 400
            return
    assert sorted([*got.answers, *got.missing]) == ["first", "second"]
    assert set(got.empty) <= set(got.answers)
    assert all(note.isprintable() and len(note) < 300 for note in got.notes) and len(got.notes) < 50
    assert sum(len(text.encode()) for text in got.answers.values()) <= exercise.limits.answer_kib * 1024
    made = assemble(exercise, got)
    nbformat.validate(made)
    assert [cell for cell in made.cells if cell.id not in got.answers] == [
        cell for cell in clean if cell.id not in got.answers
    ], "nothing but answers comes from the learner"


@examples(100)
@given(raw=st.binary(max_size=300) | JUNK.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_notebook_is_refused(tiny, raw):
    exercise, _, path, _ = tiny
    path.write_bytes(raw)
    with at_most(seconds=2), pytest.raises(Rejected):
        read_submission(path, exercise)
