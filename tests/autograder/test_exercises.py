"""The curriculum's own tests, one for each thing every exercise ships: `autograder lint`, variant by variant.

Here a wrong answer meets the checks that it is to fail, and where it fails several, those that only say that the numbers come
first are met by one answer of each exercise. Right ones, the empty one and, with SOAK=1, all meet every check, as they do under
`autograder lint` itself.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aboard.cluster import means
from autograder.exercise import Course
from autograder.grade import Grader
from autograder.judge import WAITING, hints_by_name
from autograder.lint import FEWEST_RIGHT, FEWEST_WRONG, try_variant, variants
from autograder.sandbox.host import Sandbox

SOAK = bool(os.environ.get("SOAK"))
EXERCISES = Course(Path(__file__).parents[2]).exercises()
EVERYTHING = [(e, *v) for e in EXERCISES for v in variants(e)]


def needs(exercise):
    if exercise.limits.nodes and means.missing(means.SLURM):
        pytest.skip("Slurm is not installed: sudo apt-get install slurm-wlm munge")


def numbers_first(exercise):
    """Check → name of the wrong answer whose numbers are wrong for it too, for the checks that say no more than that."""
    found = {}
    for variant in exercise.variants("wrong"):
        for check, diagnosis in variant.fails.items():
            if diagnosis == "result-first":
                found.setdefault(check, variant.name)
    return found


FIRST = {e.id: numbers_first(e) for e in EXERCISES}


def declared(exercise, kind, name, fails):
    """The failures that are looked at, and the checks that such an answer meets for that; None for all."""
    if kind != "wrong" or SOAK:
        return fails, None
    first = FIRST[exercise.id]
    own = {c: d for c, d in fails.items() if d != "result-first" or first[c] == name}
    own = own or fails  # it fails nothing else
    return own, own


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(8) as made:
        yield made


@pytest.mark.parametrize(
    "exercise, kind, name, answers, fails", EVERYTHING, ids=[f"{v[0].id}-{v[1]}-{v[2]}" for v in EVERYTHING]
)
def test_is_judged_as_declared(sandbox, exercise, kind, name, answers, fails):
    needs(exercise)
    fails, checks = declared(exercise, kind, name, fails)
    attempt = try_variant(exercise, Grader(sandbox, "fork", "tests"), kind, name, answers, fails, checks)
    assert attempt.ok, f"open {exercise.folder}: {attempt.problem}"


@pytest.mark.parametrize("exercise", EXERCISES, ids=[e.id for e in EXERCISES])
def test_ships_enough_wrong_and_right_answers(exercise):
    assert len(exercise.variants("wrong")) >= FEWEST_WRONG
    assert len(exercise.variants("right")) >= FEWEST_RIGHT


# A Jupyter kernel takes seconds to start: unless SOAK=1, it grades the solutions of two modules, and wrong answers to three.
IN_A_KERNEL = [e for e in EXERCISES if SOAK or e.module in ("m2-data-parallel", "m3-sharding")]
WRONG_IN_A_KERNEL = ("ring-all-reduce", "ddp-from-scratch", "zero")


@pytest.mark.parametrize("exercise", IN_A_KERNEL, ids=[e.id for e in IN_A_KERNEL])
def test_both_engines_agree_on_the_solution_and_on_a_wrong_answer(sandbox, exercise):
    needs(exercise)
    wrong = exercise.variants("wrong")[0]
    tried = [("solution", "solution", exercise.solution(), {})]
    if SOAK or exercise.id in WRONG_IN_A_KERNEL:
        tried.append(("wrong", wrong.name, dict(wrong.answers), dict(wrong.fails)))
    for kind, name, answers, fails in tried:
        fails, checks = declared(exercise, kind, name, fails)
        attempt = try_variant(
            exercise, Grader(sandbox, "kernel", "tests"), kind, name, answers, fails, checks
        )
        assert attempt.ok, f"open {exercise.folder}: {attempt.problem}"


@pytest.mark.parametrize("exercise", EXERCISES, ids=[e.id for e in EXERCISES])
def test_a_hint_is_of_the_check_or_the_mistake_that_it_stands_beside(exercise):
    owned, for_any_check = hints_by_name(exercise)
    assert not for_any_check
    for wrong in exercise.variants("wrong"):
        for check, diagnosis in wrong.fails.items():
            assert check in owned or diagnosis in owned or diagnosis in WAITING, f"{wrong.name}: {check}"
