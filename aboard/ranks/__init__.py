"""Run a function on N real ranks, on your own machine, in milliseconds.

from aboard import ranks
run = ranks.run(my_function, 4, shards)       # four processes, gloo, shards[r] goes to rank r
run.outputs, run.collectives[0], run.peak_bytes
run.timeline()
"""

from aboard.ranks.crew import RanksFailed, Run
from aboard.ranks.local import run
from aboard.ranks.memory import exact_memory
from aboard.ranks.meter import Collective

__all__ = ["Collective", "RanksFailed", "Run", "exact_memory", "run"]
