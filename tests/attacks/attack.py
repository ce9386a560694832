"""What an attack is: a submission that tries to get points, or to do harm, without a right answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nbformat

from autograder.exercise import Exercise
from autograder.release import skeleton

# Wrong, and quick to be found wrong: every rank keeps what it has.
WRONG = {
    "ring-all-reduce": {
        "chunks": "def chunk_bounds(numel, world_size):\n    return []",
        "ring": "def ring_all_reduce(tensor):\n    return tensor.clone()",
    },
    "ddp-from-scratch": {
        "broadcast": "def broadcast_model(model):\n    pass",
        "average": "def average_gradients(model):\n    pass",
        "step": "def train_step(model, optimizer, inputs, targets):\n    return 0.0",
    },
    "zero": {
        "shards": "def shard_bounds(numel, world_size):\n    return []",
        "optimizer": "class ShardedAdamW:\n    def __init__(self, params, **settings): pass\n    def step(self, grad): pass",
    },
}


@dataclass(frozen=True)
class Attack:
    """One hostile submission.

    code: goes before the last answer, which is wrong unless `code` defines it itself. right: before the exercise's own
    solution instead, for attacks on what an answer costs. bend: changes the finished notebook; gets and gives text.
    earns: checks it meets honestly, for which points are due. wall_s: the time limit it is given.
    """

    name: str
    code: str = ""
    exercise: str = "ring-all-reduce"
    right: bool = False
    bend: Callable[[dict[str, Any]], dict[str, Any] | str | bytes] | None = None
    earns: frozenset[str] = frozenset()
    wall_s: float = 8.0

    def notebook(self, exercise: Exercise) -> bytes:
        """The file that is handed in."""
        answers = exercise.solution() if self.right else dict(WRONG[self.exercise])
        last = exercise.answer_ids()[-1]
        defined = "def ring_all_reduce" in self.code and not self.right
        answers[last] = self.code + ("" if defined else "\n" + answers[last])
        made = skeleton(exercise)
        for cell in made.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if name in answers:
                cell.source = answers[name]
        if self.bend is None:
            return nbformat.writes(made).encode()
        bent = self.bend(json.loads(nbformat.writes(made)))
        if isinstance(bent, bytes):
            return bent
        return (bent if isinstance(bent, str) else json.dumps(bent)).encode("utf-8", "surrogatepass")


def attacks(**codes: str) -> list[Attack]:
    """Attacks on the ring exercise that are nothing but code, by name."""
    return [Attack(name, code) for name, code in codes.items()]
