"""Judges: comparisons that diagnose, draws that repeat, checks that become results."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

import pytest
import torch

from autograder import expect
from autograder.draw import Draw
from autograder.errors import UserError
from autograder.exercise import Course, load_exercise
from autograder.expect import Finding
from autograder.judge import _with_hints, load_judge, run_checks
from autograder.learner import HereAndNow
from autograder.scaffold import new
from autograder.verdict import CheckResult

RIGHT = torch.tensor([1.0, -2.0, 3.0])


@pytest.mark.parametrize(
    ("got", "diagnosis"),
    [
        (None, "wrong-type"),
        (1.0, "wrong-type"),
        (RIGHT[:2], "wrong-shape"),
        (RIGHT.double(), "wrong-dtype"),
        (RIGHT * float("nan"), "not-a-number"),
        (RIGHT * 3, "forgot"),
        (RIGHT + torch.tensor([0, 0, 9.0]), "last"),
        (RIGHT + 1, "wrong-values"),
    ],
)
def test_close_names_what_is_wrong(got, diagnosis):
    likely = {"forgot": 3, "last": torch.tensor([1.0, -2.0, 12.0])}
    with pytest.raises(Finding) as caught:
        expect.close([RIGHT.clone(), got], RIGHT, "the mean", likely)
    assert caught.value.diagnosis == diagnosis
    assert "rank 1" in caught.value.message


def test_no_message_holds_the_expected_value():
    right = torch.tensor([0.123456789, 0.987654321])
    with pytest.raises(Finding) as caught:
        expect.close(right * 1.5 + 1, right)
    assert "0.1234" not in caught.value.message and "0.9876" not in caught.value.message
    with pytest.raises(Finding) as caught:
        expect.equal([1], [31337], "the list")
    assert "31337" not in caught.value.message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rounding_of_the_dtype_passes_and_ten_times_as_much_does_not(dtype):
    terms = 16
    right = torch.linspace(-3, 3, 101, dtype=torch.float64)
    rounding = torch.finfo(dtype).eps
    expect.close((right * (1 + 2 * rounding)).to(dtype), right.to(dtype), terms=terms)
    with pytest.raises(Finding):
        expect.close((right * (1 + 400 * rounding)).to(dtype), right.to(dtype), terms=terms)


def test_draws_repeat_for_a_seed_and_differ_between_checks():
    def take(*path: str) -> tuple:
        draw = Draw(*path)
        return (
            draw.integer(0, 10**9),
            draw.odd(2, 9) % 2,
            draw.tensor(3).tolist(),
            draw.uneven(5, 99, 4) % 4 != 0,
        )

    assert take("s", "e", "a") == take("s", "e", "a")
    assert take("s", "e", "a") != take("s", "e", "b") != take("t", "e", "b")
    assert take("s", "e", "a")[1] == 1 and take("s", "e", "a")[3]


@pytest.fixture
def exercise(tmp_path: Path):
    (tmp_path / "exercises").mkdir()
    new("exercise", "mine", Course(tmp_path))
    return load_exercise(tmp_path / "exercises" / "mine")


def judged(exercise, body: str, namespace: dict | None = None, wall_s: float = 30.0):
    (check,) = exercise.points
    text = f'from autograder import expect\nfrom autograder.judge import check\n@check("it works")\ndef {check}(learner, draw):\n'
    (exercise.folder / "judge.py").write_text(text + textwrap.indent(body, "    "))
    (result,) = run_checks(load_judge(exercise), HereAndNow(namespace or {}, {}), "s", wall_s)
    return result


def test_a_check_that_returns_passes_with_its_points(exercise):
    result = judged(exercise, "draw.integer(0, 1)")
    assert (result.status, result.points) == ("pass", result.max_points)


def test_a_finding_fails_with_sentence_case_and_hint(exercise):
    result = judged(exercise, "draw.case('3 ranks')\nexpect.that(False, 'wrong-values', 'it is 7')")
    assert (result.status, result.points, result.case, result.message) == ("fail", 0, "3 ranks", "It is 7.")
    assert result.says == expect.COMMON["wrong-values"] and f"result: {result.hint}" == exercise.hints[0]


def test_each_check_gets_its_own_hint_and_the_others_the_next(exercise):
    (first,) = exercise.points
    exercise = dataclasses.replace(
        exercise, hints=["for anybody", f"{first}: for this one", "note: for nobody else"]
    )
    (exercise.folder / "judge.py").write_text("")
    failed = [
        CheckResult(id=name, title="", status="fail", diagnosis=why, points=0, max_points=1)
        for name, why in ((first, "raised"), ("other", "raised"), ("waits", "result-first"), ("absent", "missing"), ("unfit", "misfit"), ("third", "deadlock"), ("fourth", "died"))
    ]  # fmt: skip
    hints = [one.hint for one in _with_hints(exercise, failed)]
    assert hints == ["for this one", "for anybody", None, None, None, "note: for nobody else", None]


def test_a_diagnosis_has_a_hint_of_its_own(exercise):
    (first,) = exercise.points
    hints = [f"{first}: of the check", "too-late: of the diagnosis"]
    exercise = dataclasses.replace(exercise, hints=hints, diagnoses={"too-late": "It is too late."})
    for why, hint in (("too-late", "of the diagnosis"), ("raised", "of the check")):
        failed = CheckResult(id=first, title="", status="fail", diagnosis=why, points=0, max_points=1)
        assert _with_hints(exercise, [failed])[0].hint == hint
    late = failed.model_copy(update={"diagnosis": "too-late"})
    twice = [late, late.model_copy(update={"id": "next"})]
    assert [one.hint for one in _with_hints(exercise, twice)] == ["of the diagnosis", None]


def test_a_mistake_met_again_gets_no_hint_of_the_next_check_but_a_second_exception_does(exercise):
    points = {"first": 1.0, "second": 1.0}
    hints = ["first: one", "second: two", "deadlock: of the deadlock"]
    exercise = dataclasses.replace(
        exercise, points=points, hints=hints, diagnoses={"too-late": "It is too late."}
    )
    for why, given in (
        ("too-late", ["one", None]),
        ("raised", ["one", "two"]),
        ("deadlock", ["of the deadlock", None]),
        ("not-done", ["one", None]),
    ):
        failed = [
            CheckResult(id=name, title="", status="fail", diagnosis=why, points=0, max_points=1)
            for name in points
        ]
        assert [one.hint for one in _with_hints(exercise, failed)] == given


def test_the_same_mistake_met_again_takes_no_further_hint(exercise):
    exercise = dataclasses.replace(exercise, hints=["one", "two", "three"])
    failed = [
        CheckResult(id=str(n), title="", status="fail", diagnosis=why, points=0, max_points=1)
        for n, why in enumerate(("not-done", "not-done", "deadlock", "not-done"))
    ]
    assert [one.hint for one in _with_hints(exercise, failed)] == ["one", None, "two", None]


def test_of_answers_that_are_still_to_be_written_the_first_gets_a_hint_of_its_own_and_no_other(exercise):
    (first,) = exercise.points
    exercise = dataclasses.replace(
        exercise, points={first: 1.0, "next": 1.0}, hints=[f"{first}: begin so", "next: and then so"]
    )

    def failed(*why):
        return [
            CheckResult(id=name, title="", status="fail", diagnosis=one, points=0, max_points=1)
            for name, one in zip((first, "next"), why, strict=True)
        ]

    assert [one.hint for one in _with_hints(exercise, failed("not-done", "not-done"))] == ["begin so", None]
    assert [one.hint for one in _with_hints(exercise, failed("not-done", "raised"))] == [
        "begin so",
        "and then so",
    ]


def nothing(shard):
    shard.add(1)


def hungry(shard):
    raise MemoryError


def careless(shard):
    return shard.no_such_method()


@pytest.mark.parametrize(
    ("answer", "diagnosis", "message"),
    [
        (nothing, "misfit", "AttributeError: 'NoneType' object has no attribute 'sum' (rank 0)."),
        (lambda: 1, "misfit", "takes 0 positional arguments but 1 was given (rank 0)."),
        (hungry, "out-of-memory", "raised MemoryError on rank 0"),
        (careless, "raised", "no attribute 'no_such_method' on rank 0, at line"),
    ],
)
def test_an_exception_beside_the_answer_is_not_said_to_be_hers(exercise, answer, diagnosis, message):
    """drive.py calls the answer; only what passed through a line of the learner's is told as raised by her code."""
    (check,) = exercise.points
    (exercise.folder / "judge.py").write_text(
        "import torch\nfrom autograder.judge import check\n@check('it works')\n"
        f"def {check}(learner, draw):\n    learner.on_ranks(2).drive('total', [torch.ones(2)] * 2)\n"
    )
    drive: dict = {}
    exec(compile("def total(answers, x):\n    return answers.mine(x).sum()", "/x/drive.py", "exec"), drive)
    (result,) = run_checks(load_judge(exercise), HereAndNow({"mine": answer}, drive), "s", 30.0)
    assert result.diagnosis == diagnosis and result.says == expect.COMMON[diagnosis]
    assert message in result.message
    assert ("line" in result.message) == (diagnosis != "misfit")


def test_an_answer_that_is_to_be_written_is_named_and_no_draw_is_blamed(exercise):
    def stub():
        raise NotImplementedError()

    result = judged(exercise, "draw.case('7 ranks')\nlearner.call('stub')", {"stub": stub})
    assert (result.diagnosis, result.case) == ("not-done", None)
    assert result.message == "`stub` still raises NotImplementedError."


def test_a_forgotten_return_is_asked_about():
    with pytest.raises(Finding) as caught:
        expect.close(None, RIGHT, "the sum")
    assert caught.value.message == "the sum is nothing (None), expected a tensor; is a `return` missing?"


def test_a_message_keeps_the_name_it_begins_with(exercise):
    result = judged(exercise, "expect.that(False, 'wrong-type', 'chunk_bounds returned 7')")
    assert result.message == "chunk_bounds returned 7."


def test_the_text_of_a_notebook_is_what_was_defined_last():
    cells = [
        "",
        "def f():\n    return 1",
        "%time 3",
        "class C:\n    x = 1\ny = 2",
        "def f():\n    return 2",
        "def gone(): pass",
    ]
    namespace: dict = {"In": cells}
    for cell in cells[:2] + cells[3:]:
        exec(cell, namespace)
    del namespace["gone"]
    made: dict = {}
    exec(HereAndNow(namespace, {}, ["import math"]).program(), made)
    assert made["f"]() == 2 and made["C"].x == 1 and made["math"] and "gone" not in made


def test_a_mistake_of_the_judge_is_not_the_learners(exercise):
    result = judged(exercise, "1 / 0")
    assert (result.status, result.points, result.diagnosis) == ("error", 0, None)
    assert "tell your trainer" in result.message


def test_a_function_that_is_not_there_is_named(exercise):
    assert judged(exercise, "learner.call('f', 1)").diagnosis == "missing"


def test_when_time_is_up_what_is_left_is_not_run(exercise):
    assert judged(exercise, "pass", wall_s=-1.0).status == "not_run"


def test_an_unknown_diagnosis_is_the_authors_mistake(exercise):
    with pytest.raises(UserError, match="no sentence"):
        judged(exercise, "expect.that(False, 'never-heard-of', 'x')")


def test_points_without_a_check_are_the_authors_mistake(exercise):
    (exercise.folder / "judge.py").write_text(
        "from autograder.judge import check\n@check('x')\ndef other(learner, draw): ...\n"
    )
    with pytest.raises(UserError, match="make the two agree"):
        load_judge(exercise)
