"""What a room says when a learner's code has taken it over: whatever it is, a notebook, cell results and a page come out."""

from __future__ import annotations

import copy
import json

import nbformat
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autograder.assemble import assemble
from autograder.execute import KINDS, checked_outputs, execute
from autograder.exercise import load_exercise
from autograder.feedback import as_page
from autograder.sandbox.room_host import RoomGone, Saved
from autograder.store import read_result, write_result
from autograder.submission import Submission
from autograder.verdict import Result
from tests.autograder.conftest import write_course
from tests.fuzz.conftest import TEXTS, at, at_most, examples, nested, places

KEYS = [
    "output_type",
    "name",
    "text",
    "data",
    "metadata",
    "execution_count",
    "ename",
    "evalue",
    "traceback",
    "image/png",
]
# What the wire can bring: half characters do not get this far, everything else does.
SAID = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | SAID
    | st.sampled_from([torch.ones(3), torch.float32, (1,)])
)
ODD = nested(LEAVES | st.sampled_from([*KINDS, "image/png", "iVBORw0KGgo="]), st.sampled_from(KEYS))
OUTPUT = st.fixed_dictionaries(
    {"output_type": st.sampled_from(list(KINDS)) | ODD},
    optional={key: SAID | ODD for key in KEYS[1:-1]}
    | {"data": st.dictionaries(st.sampled_from(KEYS[-3:]), SAID | ODD)},
)
OUTPUTS = st.lists(OUTPUT | ODD, max_size=4) | ODD
LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    exercise = load_exercise(write_course(root))
    answers = {name: source for name, source in exercise.solution().items()}
    return exercise, assemble(exercise, Submission(answers)), root / "ada" / "two-sums"


@examples(200)
@given(raw=OUTPUTS)
def test_outputs_become_valid_ones_within_the_limit(raw):
    with at_most(seconds=2):
        outputs = checked_outputs(raw, LIMIT)
    cell = nbformat.v4.new_code_cell("x", id="a", outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.validate(notebook)
    kept = sum(len(text) for output in outputs for text in texts(output))
    assert kept <= LIMIT + 1000


def texts(value):
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(item)


class TakenRoom:
    """A room that says what it likes."""

    def __init__(self, say) -> None:
        self.say, self.cells = say, []

    def run_cell(self, source: str, timeout_s: float):
        return self.say(None)

    def run_papermill(self, notebook: str, cell_timeouts_s: list[float], timeout_s: float):
        return Saved.of(*self.say(notebook, len(cell_timeouts_s)))

    def forget_first_room(self) -> None:
        pass


def store(tiny, executed):
    """What happens to it afterwards must work too."""
    exercise, _, folder = tiny
    result = Result(learner="ada", exercise=exercise.id, status="graded", cells=executed.cells, max_score=6.5)
    nbformat.validate(executed.notebook)
    write_result(folder, result, as_page(result, executed.notebook), nbformat.writes(executed.notebook))
    assert read_result(folder / "result.json") is not None
    assert [cell.id for cell in executed.cells] == exercise.answer_ids()


@examples(40)
@given(data=st.data())
def test_cells_that_answer_anything(tiny, data):
    def say(_):
        what = data.draw(st.sampled_from(["reply", "reply", "reply", "gone", "late"]))
        if what == "gone":
            raise RoomGone
        if what == "late":
            raise TimeoutError
        return data.draw(
            st.dictionaries(st.sampled_from(["outputs", "count", "status", "op"]), OUTPUTS | LEAVES)
        )

    exercise, assembled, _ = tiny
    with at_most(seconds=5):
        store(tiny, execute(copy.deepcopy(assembled), TakenRoom(say), "fork", exercise.limits))


@examples(40)
@given(data=st.data())
def test_a_papermill_that_answers_anything(tiny, data):
    def say(sent, cells):
        begun, seconds = data.draw(st.integers(0, cells)), data.draw(st.sampled_from([0.0, 1.0, 1000.0]))
        if data.draw(st.sampled_from([False, False, True])):
            return {"ended": data.draw(st.sampled_from(["died", "timeout"]))}, begun, seconds
        saved = json.loads(sent)
        for cell in saved["cells"]:
            cell["metadata"] |= {"execution": {"shell.execute_reply": ""}, "papermill": {"duration": 1.0}}
            cell["outputs"] = data.draw(OUTPUTS.filter(no_tensors))
        for _ in range(data.draw(st.integers(0, 3))):
            path = data.draw(st.sampled_from(list(places(saved)) or [()]))
            if path:
                at(saved, path[:-1])[path[-1]] = data.draw(ODD.filter(no_tensors))
        text = json.dumps(saved)[: data.draw(st.sampled_from([None, None, None, 200]))]
        ended = data.draw(st.sampled_from(["", "", "died", "timeout", "error", 7, [""], torch.ones(2)]))
        return (
            {"notebook": data.draw(st.sampled_from([text, text, text, 7, None])), "ended": ended},
            begun,
            seconds,
        )

    from autograder.errors import SandboxError

    exercise, assembled, _ = tiny
    with at_most(seconds=5):
        try:
            executed = execute(copy.deepcopy(assembled), TakenRoom(say), "kernel", exercise.limits)
        except SandboxError:
            return
    store(tiny, executed)


def no_tensors(value):
    try:
        json.dumps(value)
        return True
    except (TypeError, ValueError):
        return False
