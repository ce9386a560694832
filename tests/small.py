"""Smaller forms of the real exercise on the ring all-reduce, for tests of what stands around an exercise."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from autograder.exercise import Course, Exercise

RING = Path(__file__).parents[1] / "exercises" / "ring-all-reduce"


def small_ring(course: Path, wall_s: int, memory_mib: int = 2048) -> Exercise:
    """ring-all-reduce in a course of its own at `course`: the checks "chunks" (2 points) and "result" (4), on 2 and 8 ranks."""
    changed(RING, course / "exercises" / RING.name, wall_s, memory_mib, keep=("chunks", "result"))
    return Course(course).exercise(RING.name)


def changed(
    exercise: Path, folder: Path, wall_s: int | None = None, memory_mib: int | None = None, keep: tuple[str, ...] = (),
    ranks: int | None = None,
) -> None:  # fmt: skip
    """The exercise in the folder `exercise` with other limits, or with the checks in `keep` only and fewer worlds, as `folder`."""
    shutil.copytree(exercise, folder)
    toml = (folder / "exercise.toml").read_text().replace(f'id = "{exercise.name}"', f'id = "{folder.name}"')
    for key, value in (("wall_s", wall_s), ("memory_mib", memory_mib), ("ranks", ranks)):
        toml = re.sub(rf"^{key} = \d+", f"{key} = {value}", toml, flags=re.M) if value else toml
    (folder / "exercise.toml").write_text(toml)
    if keep:
        leave_out(folder, {"chunks", "result", "traffic", "memory"}.difference(keep))
        judge = (folder / "judge.py").read_text()
        (folder / "judge.py").write_text(judge.replace("WORLDS = (1, 2, 3, 4, 8)", "WORLDS = (2, 8)"))


def leave_out(folder: Path, checks: Iterable[str]) -> None:
    """Take these checks out of the exercise in `folder`."""
    toml, judge = ((folder / name).read_text() for name in ("exercise.toml", "judge.py"))
    for check in checks:
        toml = re.sub(rf"^{check} = \d+\n", "", toml, flags=re.M)
        at = judge.index(f"\ndef {check}(")
        decorated = judge.rindex("@check(", 0, at)
        assert "\ndef " not in judge[decorated:at], f"{check} is no check of {folder.name}"
        judge = judge[:decorated] + judge[at + 1 :]  # a function like any other
    (folder / "exercise.toml").write_text(toml)
    (folder / "judge.py").write_text(judge)
