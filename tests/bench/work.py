"""The work that is graded: the same functions to write and the same facts to verify, whatever tool grades them.

Two trivial notebooks show what a tool costs by itself. The third is an exercise with 4 ranks: an all-reduce of odd size.
"""

from __future__ import annotations

from dataclasses import dataclass

WORLD = 4
NUMEL = 1025


@dataclass(frozen=True)
class Notebook:
    """One notebook with one answer. `test`: for a tool whose tests are cells; `judge`: for ours."""

    id: str
    title: str
    signature: str
    body: str
    test: str
    judge: str
    given: str = ""
    ranks: int = 1


ADD = Notebook(
    "add",
    "Add two numbers",
    "def add(a, b):",
    "return a + b",
    "assert add(2, 3) == 5\nassert add(-7, 7) == 0",
    """
@check("adds two numbers")
def result(learner, draw):
    a, b = draw.integer(0, 99), draw.integer(0, 99)
    expect.close(learner.call("add", a, b), a + b)
    expect.close(learner.call("add", -a, a), 0)
""",
)

LARGEST = Notebook(
    "largest",
    "The largest of a list",
    "def largest(values):",
    "return max(values)",
    "assert largest([3, 1, 2]) == 3\nassert largest([-3, -1, -2]) == -1",
    """
@check("finds the largest number")
def result(learner, draw):
    values = [draw.integer(-99, 99) for _ in range(3)]
    expect.close(learner.call("largest", values), max(values))
    expect.close(learner.call("largest", [-9, -8]), -8)
""",
)

# Where tests are cells, ranks are started from one: a program is written with the learner's function in it, and torchrun
# starts it. (torch.multiprocessing.spawn takes a little longer.)
PROGRAM = f"""
import torch
import torch.distributed as dist

ANSWER

dist.init_process_group("gloo")
rank = dist.get_rank()
mean = all_reduce_mean(torch.arange({NUMEL}.0) * (rank + 1))
assert torch.allclose(mean, torch.arange({NUMEL}.0) * {(WORLD + 1) / 2})
dist.destroy_process_group()
"""

ALL_REDUCE = Notebook(
    "all-reduce",
    "The mean over four ranks",
    "def all_reduce_mean(tensor):",
    "dist.all_reduce(tensor)\n    return tensor / dist.get_world_size()",
    f"""import inspect, pathlib, subprocess, sys, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
program = {PROGRAM!r}.replace("ANSWER", inspect.getsource(all_reduce_mean))
_ = (folder / "ranks.py").write_text(program)
torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "{WORLD}"]
ran = subprocess.run([*torchrun, folder / "ranks.py"], capture_output=True, text=True)
assert ran.returncode == 0, ran.stderr""",
    f"""
@check("the mean arrives on every rank")
def result(learner, draw):
    inputs = [draw.tensor({NUMEL}) for _ in range({WORLD})]
    run = learner.on_ranks({WORLD}).call("all_reduce_mean", inputs)
    expect.close(run.outputs, sum(inputs) / {WORLD}, "the mean", terms={WORLD})
""",
    "import torch\nimport torch.distributed as dist",
    WORLD,
)

WORKS: dict[str, tuple[Notebook, ...]] = {"trivial": (ADD, LARGEST), "ranks": (ALL_REDUCE,)}
