"""What a judge hears of a learner's process has the form that was asked for, or is a verdict of its own."""

from __future__ import annotations

import pytest
import torch

from autograder.expect import Finding
from autograder.learner import HereAndNow, Learner, has_form


@pytest.mark.parametrize(
    "value, form",
    [
        (1.5, float), ([1.5, 2.5], [float]), ([], [float]), ({"a": 1, "b": [True]}, {"a": int, "b": [bool]}),
        ({"x": torch.ones(2), "y": torch.ones(3)}, {str: torch.Tensor}), ({"stopped": 3}, ({"came": bool}, {"stopped": int})),
        (object(), None),
    ],
)  # fmt: skip
def test_what_was_asked_for(value, form):
    assert has_form(value, form)


@pytest.mark.parametrize(
    "value, form",
    [
        (1, float), (True, int), ([1.5, None], [float]), ((1.5,), [float]), ({"a": 1}, {"a": int, "b": int}),
        ({"a": 1, "b": 2, "c": 3}, {"a": int, "b": int}), ({1: torch.ones(2)}, {str: torch.Tensor}), ([1.5], {str: float}),
        (None, float), ({"other": 3}, ({"came": bool}, {"stopped": int})),
    ],
)  # fmt: skip
def test_what_was_not(value, form):
    assert not has_form(value, form)


def steps(answers, mine, rate):
    """What drive.py may be: it gives back the sum so far, times `rate`, for each number it is given."""
    total = mine
    for _ in range(2):
        total += yield [rate * total]
    return total


def conversing(function=steps):
    room = HereAndNow({}, {"steps": function})
    return Learner(room, lambda: 20.0, local=True).on_ranks(2)


def test_in_a_conversation_a_rank_is_given_more_each_time_it_has_said_something():
    run = conversing().converse(
        "steps", [1, 2], later=[[10, 20], [100, 200]], says=[int], returns=int, rate=3
    )
    assert run.outputs == [111, 222] and run.said == [[[3], [33]], [[6], [66]]]


def test_what_is_said_on_the_way_must_have_the_form_and_the_number_that_were_asked_for():
    later = [[10, 20], [100, 200]]
    with pytest.raises(Finding, match="said on the way has another form") as found:
        conversing().converse("steps", [1, 2], later=later, says=[float], returns=int, rate=3)
    assert found.value.diagnosis == "answered-in-its-place"
    with pytest.raises(Finding, match="said on the way has another form"):  # it never asks for the last one
        conversing().converse("steps", [1, 2], later=[*later, [0, 0]], says=[int], returns=int, rate=3)
    with pytest.raises(Finding, match="more on the way than it was asked for"):
        conversing().converse("steps", [1, 2], later=later[:1], says=[int], returns=int, rate=3)


def test_a_conversation_that_goes_wrong_is_told_like_any_other_call():
    def breaks_off(answers, mine):
        given = yield []
        raise ArithmeticError(f"cannot go on with {given}")

    with pytest.raises(Finding, match="ArithmeticError: cannot go on with 10 on rank 0"):
        conversing(breaks_off).converse("steps", [1, 2], later=[[10, 10]], says=[int], returns=int)


def test_in_a_conversation_too_an_answer_that_does_not_fit_is_told_as_that():
    source = "def steps(answers, mine):\n    (yield []).no_such_method()\n"
    drive: dict = {}
    exec(compile(source, "/x/drive.py", "exec"), drive)
    told = "raised Misfit: AttributeError: 'int' object has no attribute 'no_such_method' on rank 0"
    with pytest.raises(Finding, match=told):
        conversing(drive["steps"]).converse("steps", [1, 2], later=[[10, 10]], says=[int], returns=int)
