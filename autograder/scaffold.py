"""`autograder new`: a starting point for a lesson, an exercise or a site that already works.

What is made runs, lints and grades as it is; sentences beginning with TODO say what an author must replace.
A folder appears whole or not at all, and nothing that exists is touched.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Literal

from autograder.errors import UserError
from autograder.exercise import SLUG, Course

Kind = Literal["lesson", "exercise", "site"]


def new(kind: Kind, name: str, course: Course) -> list[Path]:
    """Make a folder for `name` in `course` and return the files in it.

    `name` is an exercise id, a site id, or `<module>/<lesson>`. Raises UserError for a bad name, for a folder
    that exists, and when the course cannot be written.
    """
    if course.is_workspace:
        raise UserError(f"{course.root} is a learner's workspace; give the course itself with --course DIR.")
    if kind == "exercise":
        _check_name(name, f"an exercise is named like ring-all-reduce, not {name!r}")
        folder = course.root / "exercises" / name
        files = _exercise(name, course)
    elif kind == "lesson":
        module, _, lesson = name.partition("/")
        for part in (module, lesson):
            _check_name(part, f"a lesson is named like m2-data-parallel/09-ring-all-reduce, not {name!r}")
        folder = course.root / "notebooks" / module / lesson
        files = {"lesson.md": _fill(_LESSON_MD, TITLE=_title(lesson))}
    elif kind == "site":
        _check_name(name, f"a site is named like lumi or marenostrum-5, not {name!r}")
        folder = course.root / "aboard" / "sites" / name
        files = {"site.toml": _fill(_SITE_TOML, ID=name, TITLE=_title(name))}
    else:
        raise UserError(f"There is no template for {kind!r}; choose lesson, exercise or site.")
    return _write(folder, files)


def _check_name(name: str, what: str) -> None:
    if not SLUG.fullmatch(name) or len(name) > 60:
        raise UserError(f"Lower-case letters, digits and hyphens, 60 at most: {what}.")


def _title(name: str) -> str:
    words = re.sub(r"^\d+-", "", name).replace("-", " ")
    return words[:1].upper() + words[1:]


def _exercise(name: str, course: Course) -> dict[str, str]:
    # A lesson that ends in the exercise's name is probably its own; else the last, for the author to mend.
    lessons = course.lessons()
    own = [lesson for lesson in lessons if lesson.name.endswith(name)] or lessons
    module, lesson = (own[-1].module, own[-1].name) if own else ("m0-first-module", "01-first-lesson")
    number = max((exercise.number for exercise in course.exercises()), default=0) + 1
    toml = _fill(
        _EXERCISE_TOML, ID=name, TITLE=_title(name), MODULE=module, LESSON=lesson, NUMBER=str(number)
    )
    return {
        "exercise.toml": toml,
        "exercise.md": _fill(_EXERCISE_MD, TITLE=_title(name)),
        "judge.py": _fill(_JUDGE_PY, TITLE=_title(name)),
        "wrong/forgot_to_add.py": _WRONG_PY,
        "right/gather_then_add.py": _RIGHT_PY,
    }


def _fill(template: str, **words: str) -> str:
    return re.sub(r"<<([A-Z]+)>>", lambda found: words[found[1]], template)


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists already; choose another name or remove it first.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A dot keeps the unfinished folder out of every listing.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as draft:
            made = Path(draft, folder.name)
            for name, text in files.items():
                path = made / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            made.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}.") from None
    return [folder / name for name in files]


# --- templates ---------------------------------------------------------------------------------------

_EXERCISE_TOML = """\
id = "<<ID>>"
title = "<<TITLE>>"
module = "<<MODULE>>"        # TODO: the folder of the lesson this exercise belongs to,
lesson = "<<LESSON>>"        # notebooks/<module>/<lesson>
number = <<NUMBER>>
minutes = 30
skills = ["adds tensors across ranks"]  # TODO: what an employer could read
hints = [
  "result: TODO: where to look when this check fails, without the answer.",
]

[points]                     # check (a function of judge.py) = points; they run in this order
result = 3

[limits]                     # only what differs from the defaults
wall_s = 60

[diagnoses]                  # one per mistake: what it is and how to think about it, never the answer
forgot-to-add = "Every rank still holds its own tensor: nothing of the others has arrived in the result."
"""

_EXERCISE_MD = '''\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# <<TITLE>>

TODO: replace this goal, the table and the code below by your own; they are a small exercise that works.

**Goal.** Every rank has a tensor of the same shape. After `my_sum`, every rank has their sum.

| check | points | what it verifies |
|---|---|---|
| result | 3 | the sum arrives on every rank: 1, 2, 3, 4 and 8 ranks, odd sizes |

```{code-cell} ipython3
import torch
import torch.distributed as dist

from aboard import ranks
```

TODO: say what to write, in the words of the lesson, with numbers that can be checked.

```{code-cell} ipython3
:answer: my-sum

def my_sum(shard: torch.Tensor) -> torch.Tensor:
    """The sum of `shard` over all ranks, on every rank: same shape and dtype. `shard` is not changed."""
    ### BEGIN SOLUTION
    total = shard.clone()
    dist.all_reduce(total)
    return total
    ### END SOLUTION
```

## Try it

TODO: say what to look at in the figure.

```{code-cell} ipython3
:tags: [try-it]

run = ranks.run(my_sum, 2, [torch.full((4,), float(rank)) for rank in range(2)])
print(run.outputs[0])
run.timeline("my_sum on 2 ranks")
```
'''

_JUDGE_PY = '''\
"""Judge of "<<TITLE>>"."""

from autograder import expect
from autograder.judge import check


@check("the sum arrives on every rank", about="numerics")
def result(learner, draw):
    for world in (1, 2, 3, 4, 8):
        size = draw.odd(1, 4097)
        draw.case(f"{expect.ranks(world)}, float32, {size} elements")
        shards = [draw.tensor(size) for _ in range(world)]
        run = learner.on_ranks(world).call("my_sum", shards)
        expect.close(run.outputs, sum(shards), "the sum", likely={"forgot-to-add": shards}, terms=world)
'''

_WRONG_PY = '''\
"""Returns its own tensor: nothing is sent and nothing is added.

fails: result as forgot-to-add
"""
# %% my-sum
def my_sum(shard):
    return shard.clone()
'''

_RIGHT_PY = '''\
"""Gathers every rank's tensor and adds them up: more bytes, the same sum."""
# %% my-sum
def my_sum(shard):
    every = [torch.empty_like(shard) for _ in range(dist.get_world_size())]
    dist.all_gather(every, shard)
    return sum(every)
'''

_LESSON_MD = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# <<TITLE>>

**Goal.** TODO: one sentence: what the reader can do after this lesson.

**Needs.** TODO: lessons before this one. 45 minutes, 2 ranks on a laptop.

## The cloud habit that breaks here

TODO: what works in one box or in the cloud, and what happens to it on a supercomputer.

## The idea

TODO: the idea in a few sentences, and one picture made by code.

```{code-cell} ipython3
import torch
import torch.distributed as dist

from aboard import ranks


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    total = tensor.clone()
    dist.all_reduce(total)
    return total
```

## Run it

TODO: about 30 lines that run; say what to look at.

```{code-cell} ipython3
run = ranks.run(sum_over_ranks, 2, [torch.full((1000,), float(rank)) for rank in range(2)])
run.timeline("an all-reduce on 2 ranks")
```

## Predict

TODO: ask for one number (bytes, seconds, memory) before the next cell is run, and give its formula.

```{code-cell} ipython3
world_size, size_bytes = 2, 1000 * 4
predicted_bytes = 2 * (world_size - 1) / world_size * size_bytes  # sent by each rank in a ring all-reduce
predicted_bytes
```

## Measure

TODO: the same number from the run, and why the two differ if they do.

```{code-cell} ipython3
run.sent()  # bytes, per rank
```

## Where it stops working

TODO: the size, the number of ranks or the network at which this no longer helps: the next lesson's motive.

## Exercise

TODO: link the exercise and say in one sentence what its judge verifies.

## Wrong answers, seen from outside

TODO: each plausible mistake, and how it shows: a number, a hang, a curve.

| mistake | what you see |
|---|---|
| TODO | TODO |

## Solution

:::{dropdown} Show the solution
TODO: the solution and why it is right.
:::

## On your machine

TODO: the same thing on LUMI, Leonardo, MareNostrum 5 and JUPITER, from their site profiles.

## Read next

TODO: sources, each with a sentence on what it adds.
"""

_SITE_TOML = """\
# One machine. Every fact has its source in [sources], under the same key: a URL, a document with its date, or "unverified".
# A fact nobody has found stays commented out: unknown is better than guessed. `aboard sites show <<ID>>` prints it all, and
# on the machine itself `aboard sites verify <<ID>>` compares it with what Slurm says there.
id = "<<ID>>"
name = "<<TITLE>>"  # TODO: the name the centre uses
status = "planned"  # planned, production or retired
# operator = "TODO"
# country = "FI"
# doc_url = "https://docs.example.eu"

# Login
# login_hosts = ["login.example.eu"]
# login_port = 22

# A node; a "GPU" is what Slurm counts as one
# arch = "x86_64"
# gpu_vendor = "NVIDIA"
# gpu_model = "TODO"
# gpu_nodes = 100
# gpus_per_node_slurm = 4
# gpu_mem_gb = 64
# peak_bf16_dense_tflops = 312  # dense, never the figure for sparse matrices
# hbm_bw_gb_s = 1555
# cpu_cores_per_node = 64
# host_mem_gb = 512
# nics_per_node = 4
# nic_gbps = 200
# fabric = "TODO"

# Slurm and software
# default_partition = "gpu"
# account_required = true
# qos_required = false
# billing = "TODO"  # what one hour of one node costs, in the centre's unit
# internet_compute = "no"
# container_runtime = "TODO"
# modules = ["module load TODO"]

# One row for each partition and QOS, in the order in which a job takes the first that fits. From here on every line that
# begins with [ starts a table: plain keys stand above.
# [[partitions]]
# partition = "gpu"
# max_nodes_per_job = 64
# max_walltime_h = 24
# whole_nodes = true

# [[storage]]
# name = "scratch"
# path = "/scratch/<project>"
# quota = "TODO"

# How a job asks for what it needs: `aboard job` writes scripts from it, and `aboard cluster up --site <<ID>>` obeys it.
# [request]
# gpus = "gres"  # or gpus-per-node, gpus, gpus-per-task
# cores_per_gpu = 16
# account = "project_123"  # what an account looks like
# container = "singularity exec --nv"
# offline = true

# A line that a script needs here, with its reason. place: header, setup, env, srun or container
# [[request.lines]]
# place = "env"
# line = "NCCL_SOCKET_IFNAME=ib0"
# why = "the fast network, not the one for administration"
# source = "https://docs.example.eu/nccl"

# What goes wrong for newcomers, as a warning on the machine's page
# [[traps]]
# text = "TODO"
# source = "unverified"

[sources]
id = "the name of this folder"
name = "unverified"
status = "unverified"
# gpu_nodes = "https://docs.example.eu/nodes (read 2026-01-31)"
"""
