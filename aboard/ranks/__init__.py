"""Run a function on N real ranks, on your own machine, in milliseconds.

from aboard import ranks
run = ranks.run(my_function, 4, shards)       # four processes, gloo, shards[r] goes to rank r
run.outputs, run.collectives[0], run.peak_bytes
run.timeline()
ranks.run(my_function, 4, shards, device=ranks.best_device(4))   # a GPU for each and NCCL, if there are four
"""

from aboard.ranks.call import RanksFailed, Run
from aboard.ranks.device import best_device, synchronize
from aboard.ranks.local import run
from aboard.ranks.memory import exact_memory
from aboard.ranks.meter import Collective

__all__ = ["Collective", "RanksFailed", "Run", "best_device", "exact_memory", "run", "synchronize"]
