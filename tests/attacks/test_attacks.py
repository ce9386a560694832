"""Hostile submissions on the real exercises: none gains a point, reads, writes, leaves or changes what it should not.

Each attack is handed to the batch's own worker, beside people who have done nothing. All run under the fork engine;
those whose path differs run under the kernel engine too. With SOAK=1 in the environment, all run under both.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aboard.cluster import means
from autograder.sandbox import landlock
from autograder.sandbox.outer import WALLS
from tests.attacks import bend, break_reader, edit, forge, judges, leave, look, meter, outlive, poison, reach
from tests.attacks.attack import RING, Attack
from tests.attacks.ground import Ground, is_corpse
from tests.ordinary_user import open_to_all

EXERCISES = Path(__file__).parents[2] / "exercises"
SOAK = bool(os.environ.get("SOAK"))
EVERY = 1 if SOAK else 20  # innocents are graded after as many attacks
KINDS = (look, bend, forge, leave, edit, outlive, reach, poison, break_reader, meter, judges)
ATTACKS: dict[str, Attack] = {
    f"{kind.__name__.rpartition('.')[2]}-{one.name}": one for kind in KINDS for one in kind.ATTACKS
}


# What `make test` runs; with SOAK=1 all kinds run, under both engines and every layer.
ON_SLURM = {"slurm-scripts", "no-internet", "requeue"}
SHORT = (
    "look-",
    "forge-",
    "reach-",
    "meter-",
    "edit-",
    "poison-",
    "break_reader-",
    "judges-",
    "outlive-memory-",
)


# Those are after other things than the judge, so that fewer checks will do in the short form.
AROUND = ("look-", "reach-", "edit-", "poison-")


def attack_of(name: str) -> Attack:
    one = ATTACKS[name]
    smaller = not SOAK and name.startswith(AROUND) and one.exercise == RING
    return dataclasses.replace(one, exercise="ring-quick") if smaller else one


def chosen() -> list[object]:
    names = [name for name in ATTACKS if SOAK or name.startswith(SHORT)]
    return [pytest.param(name, marks=marks_of(name)) for name in names]


def marks_of(name: str) -> list[pytest.MarkDecorator]:
    if ATTACKS[name].exercise in ON_SLURM and means.missing(means.SLURM):
        return [pytest.mark.skip(reason="Slurm is not installed: sudo apt-get install slurm-wlm munge")]
    return []


long_form = pytest.mark.skipif(not SOAK, reason="long form: SOAK=1")


@pytest.fixture(scope="session")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str, str], Ground]]:
    made: dict[tuple[str, str, str], Ground] = {}
    yield made
    for ground in made.values():
        ground.close()


def ground_for(
    grounds: dict, tmp_path_factory, engine: str, layer: str = "bubblewrap", user: str = "this"
) -> Ground:
    key = (engine, layer, user)
    if key not in grounds:
        base = tmp_path_factory.mktemp(f"{engine}-{layer}")
        if user == "ordinary":
            open_to_all(base)
        grounds[key] = Ground(base, engine, layer, user, () if SOAK else map(attack_of, ATTACKS))
    return grounds[key]


def test_there_are_enough_of_them_and_every_kind():
    assert len(ATTACKS) >= 80
    assert all(len(kind.ATTACKS) >= 10 for kind in KINDS)
    names = {folder.parent.name for folder in EXERCISES.glob("*/exercise.toml")}
    assert {a.exercise for a in ATTACKS.values()} & names >= {
        "ring-all-reduce",
        "ddp-from-scratch",
        "zero",
        *ON_SLURM,
    }
    assert ON_SLURM <= names
    assert sum(a.kernel for a in ATTACKS.values()) >= 20


@pytest.mark.parametrize("name", chosen())
def test_under_fork(grounds, tmp_path_factory, name):
    found = ground_for(grounds, tmp_path_factory, "fork").attack(attack_of(name), EVERY)
    if found.wrong:
        pytest.fail("\n".join(found.wrong), pytrace=False)


@long_form
@pytest.mark.parametrize("name", [n for n, a in ATTACKS.items() if a.kernel or SOAK])
def test_under_kernel(grounds, tmp_path_factory, name):
    found = ground_for(grounds, tmp_path_factory, "kernel").attack(attack_of(name), EVERY)
    if found.wrong:
        pytest.fail("\n".join(found.wrong), pytrace=False)


@long_form
def test_innocents_after_all_attacks_under_kernel(grounds, tmp_path_factory):
    ground = ground_for(grounds, tmp_path_factory, "kernel")
    assert ground.innocents() == ground.reference()


@long_form
@pytest.mark.parametrize("exercise", ["ring-all-reduce", "ddp-from-scratch", "zero"])
def test_innocents_after_all_attacks(grounds, tmp_path_factory, exercise):
    """The whole exercises, in the worker that has seen it all and in one that has seen nothing."""
    used = ground_for(grounds, tmp_path_factory, "fork")
    fresh = Ground(tmp_path_factory.mktemp("fresh"), "fork")
    try:
        assert used.innocents(exercise) == fresh.innocents(exercise)
    finally:
        fresh.close()


# In the short form those that look around and reach out: what holds them is the wall.
AT_THE_WALL = [n for n in ATTACKS if SOAK or n.startswith(("look-", "reach-"))]


@pytest.mark.skipif(landlock.abi() < landlock.NEEDED_ABI, reason=f"this kernel has Landlock {landlock.abi()}")
@pytest.mark.parametrize("name", [n for n in AT_THE_WALL if ATTACKS[n].alone])
def test_without_namespaces(grounds, tmp_path_factory, name):
    found = ground_for(grounds, tmp_path_factory, "fork", "landlock", "ordinary").attack(
        attack_of(name), EVERY
    )
    if found.wrong:
        pytest.fail("\n".join(found.wrong), pytrace=False)


@pytest.mark.parametrize("name", AT_THE_WALL)
@pytest.mark.parametrize("user", ["ordinary", "this"] if SOAK else ["ordinary"])
def test_behind_our_own_wall(grounds, tmp_path_factory, user, name):
    found = ground_for(grounds, tmp_path_factory, "fork", "namespaces", user).attack(attack_of(name), EVERY)
    if found.wrong:
        pytest.fail("\n".join(found.wrong), pytrace=False)


LAYERS = [("bubblewrap", "this"), ("namespaces", "ordinary")]
if landlock.abi() >= landlock.NEEDED_ABI:
    LAYERS.append(("landlock", "ordinary"))


@pytest.mark.parametrize("layer, user", LAYERS)
def test_no_corpse_is_left_of_any_submission(grounds, tmp_path_factory, layer, user):
    ground = ground_for(grounds, tmp_path_factory, "fork", layer, user)
    innocent = "ring-quick" if layer in WALLS else "ring-alone"
    ground.innocents(innocent)
    before = [p for p in ground.family() if is_corpse(p)]
    ground.innocents(innocent)
    assert [p for p in ground.family() if is_corpse(p)] == before
