"""Hostile submissions: none earns what it has not met, reaches anything, leaves anything, or changes another's grade.

The attacks are data, in the files beside this one: one for each line of what a grader of notebooks must survive. All run
under the `fork` engine; under `kernel`, those that take another way there. `SOAK=1` runs all under both.
"""

from __future__ import annotations

import os
import re

import pytest

from tests.attacks import bend, edit, forge, leave, look, meter, outlive, poison, reach, reader
from tests.attacks.attack import Attack
from tests.attacks.conftest import MOST_GROWTH, SECRET, Range

KINDS = (look, bend, forge, leave, edit, outlive, reach, poison, reader, meter)
ATTACKS = [pytest.param(a, id=f"{kind.__name__.rpartition('.')[2]}-{a.name}") for kind in KINDS for a in kind.ATTACKS]
# Where a Jupyter kernel stands between the notebook and the agent: cells, exits, outputs, the hand-over.
THROUGH_A_KERNEL = (
    "exits_hard", "kills_its_parent", "becomes_another_program_in_a_cell", "quits", "a_loop_that_ignores_interrupts",
    "a_hook_before_every_cell", "another_grader", "says_a_cell_is_done", "hangs_up_while_cells_run", "output_without_end",
    "displays_forged_output", "another_kernel", "tagged_as_parameters", "cells_in_between", "script_in_html",
    "memory_without_end", "a_daemon_that_ignores_signals", "a_cell_of_shell", "raises_system_exit_from_an_import_hook",
)  # fmt: skip
SOAK = bool(os.environ.get("SOAK"))
KERNEL = [p for p in ATTACKS if SOAK or p.values[0].name in THROUGH_A_KERNEL]

SCRIPT = re.compile(r"<script(?! nonce)[^>]*>(?!\s*/\* ours)|<[^>]+\son\w+\s*=|<[^>]+javascript:|<iframe|<object|<embed", re.IGNORECASE)


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own():
    names = [p.values[0].name for p in ATTACKS]
    assert len(names) == len(set(names)) >= 80
    assert set(THROUGH_A_KERNEL) <= set(names)


@pytest.mark.parametrize("attack", ATTACKS)
def test_under_fork(fork_range: Range, attack: Attack):
    survives(fork_range, attack)


@pytest.mark.parametrize("attack", KERNEL)
def test_under_kernel(kernel_range: Range, attack: Attack):
    survives(kernel_range, attack)


def survives(here: Range, attack: Attack) -> None:
    before = here.outside()
    result, seen = here.grade(attack)

    earned = {c.id for c in result.checks if c.points > 0}
    assert earned <= attack.earns, f"{earned - attack.earns} were not met: {[(c.id, c.status, c.message) for c in result.checks]}"
    assert result.score == sum(c.max_points for c in result.checks if c.id in earned)
    assert result.max_score == here.exercises[attack.exercise].max_score

    assert SECRET not in seen and "REACHED" not in "".join(outputs(seen)), seen[:3000]
    assert not here.was_called()
    assert here.outside() == before
    assert here.living() == here.processes, "a process is left, or the sandbox is not the same one"
    assert here.grade_innocents() == here.undisturbed
    growth = {pid: now - here.before.get(pid, 0) for pid, now in here.memory().items()}
    assert max(growth.values()) < MOST_GROWTH, growth


def outputs(seen: str) -> list[str]:
    """The text of stream outputs in what is seen; the source of a cell is not what it reached."""
    return re.findall(r"'text': '((?:[^'\\]|\\.)*)'", seen)


@pytest.mark.parametrize("attack", [p for p in ATTACKS if p.id.startswith(("poison", "look"))])
def test_pages_show_text_and_nothing_that_runs(fork_range: Range, attack: Attack):
    from autograder.feedback import as_page

    exercise = fork_range.exercises[attack.exercise]
    path = fork_range.folder / f"{exercise.id}.ipynb"
    path.write_bytes(attack.notebook(exercise))
    result, executed = fork_range.grader.grade("<script>alert(1)</script>", exercise, path, under=fork_range.folder)
    path.unlink()
    page = as_page(result, executed)
    assert not SCRIPT.findall(page)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", result.model_dump_json().encode().decode("unicode_escape", "ignore").replace("\r", ""))
