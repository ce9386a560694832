"""What an attack is, and short ways to write one down: a piece of Python in answer cells, or a file's bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cohort import notebook

if TYPE_CHECKING:
    from autograder.exercise import Exercise
    from tests.attacks.ground import Found, Ground

Make = Callable[["Ground", "Exercise"], "str | bytes"]
RING = "ring-all-reduce"

# Answers that are wrong in every check, for attacks that bring nothing better.
WRONG: dict[str, dict[str, str]] = {
    RING: {
        "chunks": "def chunk_bounds(numel, world_size):\n    return [(0, numel)] * world_size + [(0, 0)]",
        "ring": "def ring_all_reduce(tensor):\n    return tensor * dist.get_world_size() + 1",
    },
    "ddp-from-scratch": {
        "broadcast": "def broadcast_model(model):\n    pass",
        "average": "def average_gradients(model):\n    pass",
        "step": "def train_step(model, optimizer, inputs, targets):\n    pass",
    },
    "zero": {
        "shards": "def shard_bounds(numel, world_size):\n    return [(0, numel)] * world_size",
        "optimizer": "class ShardedAdamW:\n    def __init__(self, *a, **k): pass\n    def step(self, grad): pass",
    },
    "boxes-and-the-machine": {
        "layout": "def layout(job, site):\n    return {}",
        "charge": "def charge(job, site):\n    return {}",
        "where": "def where(step, site):\n    return 'compute'",
        "request": "def request(job, site):\n    return {}",
    },
    "buckets-and-overlap": {
        "buckets": "def make_buckets(model, cap_bytes):\n    return []",
        "reducer": "class Reducer:\n    def __init__(self, model, cap_bytes): pass\n    def finish(self): pass",
    },
    "fsdp2": {
        "prepare": "def prepare(model, make_optimizer):\n    return make_optimizer(model.parameters())",
        "step": "def train_step(model, optimizer, inputs, targets, max_norm):\n    return 0.0, 0.0",
        "checkpoint": "def full_state(model):\n    return {}",
    },
    "hangs-and-stragglers": {
        "diagnose": "def diagnose(report):\n    return None",
        "train_and_save": "def train_and_save(values, every, save):\n    return values[0]",
        "mean_of_each": "def mean_of_each(tensors):\n    return tensors",
        "mean_per_step": "def mean_per_step(batches, size):\n    return batches",
    },
    "no-internet": {
        "stage": "def stage_script(url, target, names):\n    return 'true'",
        "job": "def job_script(nodes, ranks, minutes, account, target, scratch):\n    return '#!/bin/bash\\ntrue\\n'",
        "container": "def container_line(image, command, reads, writes):\n    return ['true']",
    },
    "requeue": {
        "checkpoint": "def save(training, folder): pass\ndef load(training, folder): return False",
        "stop": "class Stop:\n    def __call__(self): return False",
        "script": "def job_script(nodes, ranks, minutes, account):\n    return '#!/bin/bash\\ntrue\\n'",
    },
    "same-curve": {
        "start": "def new_model(make, seed):\n    return make()",
        "order": "def my_samples(step, size, plan, rank, world):\n    return torch.arange(plan.global_batch)",
        "noise": "def dropout_masks(samples, step, width, plan):\n    return torch.ones(len(samples), width)",
        "rate": "def learning_rate(step, plan):\n    return 0.0",
        "step": "def train_step(model, optimizer, inputs, targets, step, plan):\n    return 0.0",
    },
    "sharded-data": {
        "pack": "def pack(folder, out, samples_per_shard):\n    return []",
        "samples": "def samples(*arguments):\n    yield from ()",
    },
    "slurm-scripts": {
        "ranks": "def rank_script(nodes, gpus, minutes, account):\n    return '#!/bin/bash\\ntrue\\n'",
        "torchrun": "def torchrun_script(nodes, gpus, minutes, account):\n    return '#!/bin/bash\\ntrue\\n'",
        "array": "def array_script(last, at_once, minutes, account):\n    return '#!/bin/bash\\ntrue\\n'",
    },
    "the-whole-loop": {
        "sampler": "class ShardSampler:\n    def __init__(self, *a, **k): pass",
        "train": "def train_epoch(*arguments):\n    return []",
        "metrics": "def evaluate(*arguments):\n    return {}",
        "norm": "class SyncBatchNorm(torch.nn.BatchNorm1d):\n    pass",
    },
    "zero-3": {"zero3": "class Zero3:\n    def __init__(self, *a, **k): pass"},
}
# An attack that reached what it should not says so by `got`; the word never stands in its source.
PRELUDE = """def got(what):
    text = "ESC" + "APED " + str(what)[:2000]
    print(text)
    import os
    open(os.path.expanduser("~/escaped"), "a").write(text)
def attempt(what, *a, **k):
    try:
        got((getattr(what, "__name__", what), what(*a, **k)))
    except Exception:
        pass
def tell():
    import os
    if os.path.exists(os.path.expanduser("~/escaped")):
        raise RuntimeError(open(os.path.expanduser("~/escaped")).read())
"""
ESCAPED = "ESC" + "APED "
# What a room must look like to the one who comes next.
VISITOR = """
import os
fields = next(line for line in open("/proc/net/sockstat") if line.startswith("TCP:")).split()
if int(fields[fields.index("tw") + 1]) > 500:
    got(("connections of others wait here", fields))
for family in ("tcp", "udp", "unix"):
    lines = [line for line in open("/proc/net/" + family).read().splitlines()[1:] if " 06 00000000:" not in line]
    if len(lines) > 20:
        got((family, len(lines)))
for folder in ("/scratch", "/dev/shm"):
    names = [n for n in os.listdir(folder) if not n.startswith(".") and n != "escaped"]
    if names:
        got((folder, names[:5]))
if len([p for p in os.listdir("/proc") if p.isdigit()]) > 3:
    got("processes of others")
"""


@dataclass(frozen=True)
class Attack:
    """One hostile submission.

    about: what it tries, in a phrase. make: the notebook's bytes; or place: puts something at the submission's path.
    may_earn: checks that its code meets honestly. rejected: it must be refused as no notebook. kernel: also run under
    the kernel engine in the short form, for its path differs there. slow_s: seconds it may take beyond the exercise's
    own wall limit. also: a further assertion. file: the name of its file, without .ipynb, when that is not its exercise's. visit: look around in the room of the next one for what was left. alone: it needs one process only, so it is run without namespaces too.
    """

    name: str
    about: str
    make: Make | None = None
    exercise: str = RING
    may_earn: frozenset[str] = frozenset()
    rejected: bool = False
    kernel: bool = False
    alone: bool = False
    place: Callable[[Ground, Exercise, Path], None] | None = None
    learner: str = "mallory"
    file: str = ""
    also: Callable[[Found], None] | None = None
    slow_s: float = 15.0
    visit: bool = False


def cells(**answers: str) -> Make:
    """These answers, and wrong ones elsewhere. SOLUTION stands for the reference, WRONG for the wrong answer."""

    def make(ground: Ground, exercise: Exercise) -> str:
        return notebook(exercise, _filled(ground, exercise, answers))

    return make


def before(code: str, **answers: str) -> Make:
    """`code` ahead of the first answer, so that it runs when the notebook does; all answers wrong unless given."""

    def make(ground: Ground, exercise: Exercise) -> str:
        first = exercise.answer_ids()[0]
        mine = answers | {first: code + "\n" + answers.get(first, "WRONG")}
        return notebook(exercise, _filled(ground, exercise, mine))

    return make


def once(code: str) -> Make:
    """Like `before`, in the first room only and the first time only: for what takes long to do."""
    body = "\n".join("    " + line for line in code.strip().splitlines())
    return before(f"""
import os, socket
if socket.gethostname() == "rank0" and not os.path.exists("/scratch/.once"):
    open("/scratch/.once", "w").close()
{body}
""")


def inside(code: str) -> Make:
    """`code` in the function that each rank calls, which returns a wrong result."""
    body = "\n".join("    " + line for line in code.splitlines())
    return cells(ring=f"def ring_all_reduce(tensor):\n{body}\n    tell()\n    return tensor")


def returns(value: str, chunk: str = "None") -> Make:
    """Both functions return something: Python expressions, in which `tensor` or `numel`, `world_size` exist."""
    return cells(
        chunks=f"def chunk_bounds(numel, world_size):\n    return {chunk}",
        ring=f"def ring_all_reduce(tensor):\n    return {value}",
    )


def around_right(code: str, setup: str = "") -> Make:
    """The right all-reduce, and around it what the meters should see: `code` runs before it on every rank."""
    body = "\n".join("    " + line for line in code.splitlines())
    ring = f"{setup}\nSOLUTION\n_honest = ring_all_reduce\ndef ring_all_reduce(tensor):\n{body}\n    return _honest(tensor)"
    return cells(chunks="SOLUTION", ring=ring)


def edited(change: Callable[[dict[str, Any]], None], **answers: str) -> Make:
    """A notebook of wrong answers (unless given) whose JSON `change` has been at."""

    def make(ground: Ground, exercise: Exercise) -> str:
        found = json.loads(cells(**answers)(ground, exercise))
        change(found)
        return json.dumps(found)

    return make


def raw(text: str | bytes) -> Make:
    return lambda ground, exercise: text


def cell_of(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The cell with this grade_id in a notebook's JSON."""
    return next(c for c in found["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == name)


def _filled(ground: Ground, exercise: Exercise, answers: Mapping[str, str]) -> dict[str, str]:
    solution, wrong = exercise.solution(), WRONG[RING if exercise.id.startswith("ring") else exercise.id]
    done = {}
    for number, name in enumerate(exercise.answer_ids()):
        text = answers.get(name, "WRONG").replace("SOLUTION", solution[name]).replace("WRONG", wrong[name])
        for key, value in ground.places().items():
            text = text.replace(f"@{key}@", value)
        done[name] = PRELUDE + text if number == 0 else text
    return done
