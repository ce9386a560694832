"""What a judge hears of a learner's process has the form that was asked for, or is a verdict of its own."""

from __future__ import annotations

import pytest
import torch

from autograder.learner import has_form


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
