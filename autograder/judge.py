"""Judges: the trusted side of an exercise, and how its checks are run.

An exercise's judge.py holds functions marked `@check("what it verifies")`. Each takes the learner (a proxy that returns
data) and a source of fresh draws, and either returns or raises a Finding.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autograder.draw import Draw
from autograder.errors import SandboxError, UserError
from autograder.exercise import Exercise
from autograder.expect import COMMON, Finding
from autograder.learner import Learner, Misfit, Room
from autograder.verdict import CheckResult

KINDS = ("numerics", "communication", "memory", "overlap", "records")


@dataclass(frozen=True)
class Check:
    """One thing a judge verifies. `id` is the function's name in judge.py."""

    id: str
    title: str
    about: str
    function: Callable[[Learner, Draw], None]


def check(title: str, about: str = "numerics") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a function of judge.py as a check. `title` completes "verified: …"; `about` is one of KINDS."""
    if about not in KINDS:
        raise UserError(f"@check({title!r}): about must be one of {', '.join(KINDS)}, not {about!r}.")

    def mark(function: Callable[..., None]) -> Callable[..., None]:
        function.__check__ = (title, about)  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True)
class Judge:
    """An exercise with its checks, in the order of its [points] table."""

    exercise: Exercise
    checks: list[Check]


def load_judge(exercise: Exercise) -> Judge:
    """Import judge.py of `exercise`. UserError names the file when it cannot be used."""
    path = exercise.folder / "judge.py"
    module = load_module(path, f"judge_{exercise.id.replace('-', '_')}")
    found: dict[str, Check] = {}
    for name, value in vars(module).items():
        if callable(value) and hasattr(value, "__check__"):
            title, about = value.__check__
            found[name] = Check(name, title, about, value)
    unknown = [n for n in exercise.points if n not in found]
    unpriced = [n for n in found if n not in exercise.points]
    if unknown or unpriced or not found:
        raise UserError(
            f"{path}: its checks are {', '.join(found) or 'none'}, but [points] in exercise.toml names "
            f"{', '.join(exercise.points)}; make the two agree."
        )
    return Judge(exercise, [found[name] for name in exercise.points])


def load_module(path: Path, name: str) -> Any:
    """Run a Python file of the course as a module. UserError when it is missing or cannot be imported."""
    if not path.is_file():
        raise UserError(f"{path} is missing; an exercise needs it.")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def run_checks(
    judge: Judge,
    room: Room,
    seed: str,
    wall_s: float,
    local: bool = False,
    on_check: Callable[[CheckResult], None] = lambda result: None,
) -> list[CheckResult]:
    """Run every check on the code in `room`, each with draws of its own; one result each, in order.

    `wall_s` bounds all checks together; one call may use half of what is left. A Finding fails the check with its
    diagnosis; when time is up, what is left is `not_run`. An error of the judge itself is `error`, and earns no points.
    """
    with one_thread():
        return _run_all(judge, room, seed, wall_s, local, on_check)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what the judge itself computes.

    Its tensors are small, and it shares the cores with the ranks it judges: two threads that wait for each other on a
    busy core took ten times as long as one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run_all(
    judge: Judge, room: Room, seed: str, wall_s: float, local: bool, on_check: Callable[[CheckResult], None]
) -> list[CheckResult]:
    deadline = time.monotonic() + wall_s

    def patience() -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Finding("timeout", f"the time limit of {wall_s:.0f} s for this exercise was reached.")
        return max(1.0, left / 2)

    learner = Learner(room, patience, local)
    try:
        return _with_hints(judge.exercise, _each(judge, learner, seed, deadline, on_check))
    finally:
        learner.close()


def _each(
    judge: Judge,
    learner: Learner,
    seed: str,
    deadline: float,
    on_check: Callable[[CheckResult], None],
) -> list[CheckResult]:
    results = []
    for one in judge.checks:
        if time.monotonic() >= deadline:
            result = _result(judge, one, "not_run", message="Not run: the time limit was reached before.")
        else:
            result = _run_check(judge, one, learner, Draw(seed, judge.exercise.id, one.id))
        results.append(result)
        on_check(result)
    return results


def _run_check(judge: Judge, one: Check, learner: Learner, draw: Draw) -> CheckResult:
    try:
        one.function(learner, draw)
    except Finding as finding:
        status = "timeout" if finding.diagnosis == "timeout" else "fail"
        # Where nothing is written, or nothing defined, what was drawn is not the reason.
        case = None if finding.diagnosis in ("not-done", "missing") else draw.current_case
        return _result(judge, one, status, *_named(finding), case)
    except (SandboxError, UserError):
        raise  # says nothing about the learner: the submission is graded anew, or not at all
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"The check itself failed ({type(error).__name__}: {error}, {Path(place.filename).name} line {place.lineno})"
        return _result(judge, one, "error", None, text + "; please tell your trainer.", draw.current_case)
    return _result(judge, one, "pass")


# How Python and PyTorch say that there is no memory left.
_NO_MEMORY = re.compile(r"raised MemoryError|DefaultCPUAllocator: can't allocate memory")
_STUB = re.compile(r"at line \d+ of (\w+)")
_MISFIT = re.compile(rf"raised {Misfit.__name__}: (.*?)(?: on (rank \d+))?(?:, at line .*)?$", re.DOTALL)


def _named(finding: Finding) -> tuple[str, str]:
    """(diagnosis, message), where an exception is of a kind that says more than that one was raised."""
    if finding.diagnosis == "not-done" and (stub := _STUB.search(finding.message)):
        return "not-done", f"`{stub[1]}` still raises NotImplementedError"
    if finding.diagnosis == "raised":
        if _NO_MEMORY.search(finding.message):
            return "out-of-memory", finding.message
        if (found := _MISFIT.search(finding.message.rstrip("."))) is not None:
            return "misfit", found[1] + (f" ({found[2]})" if found[2] else "")
    return finding.diagnosis, finding.message


def _result(
    judge: Judge,
    one: Check,
    status: Any,
    diagnosis: str | None = None,
    message: str = "",
    case: str | None = None,
) -> CheckResult:
    points = judge.exercise.points[one.id]
    says = judge.exercise.diagnoses.get(diagnosis or "") or COMMON.get(diagnosis or "")
    if diagnosis and not says:
        raise UserError(
            f"{judge.exercise.folder}/exercise.toml: [diagnoses] has no sentence for {diagnosis!r}."
        )
    if message and not message.endswith((".", "…", "!", "?")):
        message += "."
    return CheckResult(
        id=one.id, title=one.title, about=one.about, status=status, diagnosis=diagnosis, says=says,
        points=points if status == "pass" else 0.0, max_points=points,
        message=_sentence(message), case=case,
    )  # fmt: skip


def _sentence(text: str) -> str:
    """With a capital, unless it begins with a name of the program: `chunk_bounds`."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


# Hints wait until the result is right, the cell runs, the function fits
WAITING = ("result-first", "missing", "misfit")


def _with_hints(exercise: Exercise, results: list[CheckResult]) -> list[CheckResult]:
    """Give each failing check a hint: its diagnosis's, written "diagnosis: …", or its own, written "check: …",
    else the next of those for any check.

    A check that only waits for something else to be mended gets none, and the same mistake met again no further one: who
    has written nothing yet does not read all hints at once.
    """
    owned, shared = hints_by_name(exercise)
    anyones = iter(shared)
    met: set[str | None] = set()
    vague = COMMON.keys() - owned.keys() - {"not-done"}  # an exception in two checks may be two mistakes

    def hint(one: CheckResult) -> str | None:
        if one.diagnosis in vague and one.id in owned:
            return owned[one.id]
        if one.diagnosis in met:
            return None
        met.add(one.diagnosis)
        return owned.get(one.diagnosis or "") or owned.get(one.id) or next(anyones, None)

    return [
        r.model_copy(update={"hint": hint(r)}) if r.status == "fail" and r.diagnosis not in WAITING else r
        for r in results
    ]


def hints_by_name(exercise: Exercise) -> tuple[dict[str, str], list[str]]:
    """(check or diagnosis → its own hint, hints for any check), in the order of exercise.toml."""
    names = exercise.points.keys() | exercise.diagnoses.keys() | COMMON.keys()
    owned: dict[str, str] = {}
    shared = []
    for hint in exercise.hints:
        name, separator, text = hint.partition(": ")
        if separator and name in names:
            owned.setdefault(name, text)
        else:
            shared.append(hint)
    return owned, shared
