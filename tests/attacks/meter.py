"""Cheat the meter: right numbers that pretend to cost less, or that were not computed when they were measured."""

from tests.attacks.attack import Attack

HONEST = frozenset({"chunks", "result"})
OVER = "\n_ring = ring_all_reduce\ndef ring_all_reduce(tensor):\n    {}\n    return _ring(tensor)\n"


# (name, what every call does besides, checks it meets honestly)
EXTRA = [
    ("sends_everything_twice_and_patches_the_meter",
     "import aboard.ranks.meter as m; m.Meter.as_data = lambda self: []\n    dist.all_reduce(tensor.clone()); dist.all_reduce(tensor.clone())",
     HONEST | {"memory"}),
    ("takes_memory_and_patches_the_gauges",
     "import resource, aboard.ranks.memory as m; m.read_status = m.anonymous = lambda pid: 0\n    x = torch.ones(30_000_000)",
     HONEST | {"traffic"}),
    ("takes_memory_for_a_moment",
     "x = torch.ones(30_000_000); del x", HONEST | {"traffic"}),
    ("takes_memory_where_it_says_it_is_not_dumpable",
     "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n    x = torch.ones(30_000_000)", HONEST | {"traffic"}),
    ("has_another_process_take_the_memory",
     "import os, time\n    if os.fork() == 0:\n        x = torch.ones(30_000_000); time.sleep(0.5); os._exit(0)\n    time.sleep(0.2)",
     HONEST | {"traffic"}),
    ("puts_the_memory_into_files",
     "open(f'/dev/shm/{id(tensor)}', 'wb').write(bytes(100_000_000))", HONEST | {"traffic"}),
    ("makes_a_group_of_its_own",
     "g = dist.new_group(list(range(dist.get_world_size()))); dist.all_reduce(tensor.clone(), group=g); dist.all_reduce(tensor.clone(), group=g)",
     HONEST | {"memory"}),
    ("talks_over_a_store_of_its_own",
     "import torch.distributed.distributed_c10d as c\n    store = c._get_default_store(); store.set(f'x{dist.get_rank()}', bytes(3_000_000)); store.get(f'x{(dist.get_rank() + 1) % dist.get_world_size()}')",
     HONEST | {"memory"}),
]  # fmt: skip


def _late(name: str, code: str, earns: frozenset[str]) -> Attack:
    def bend(notebook):
        cell = next(c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == "ring")
        cell["source"] += OVER.format(code)
        return notebook

    return Attack(name, right=True, bend=bend, earns=earns)


ATTACKS = [_late(*one) for one in EXTRA]
ATTACKS += [
    Attack("stops_the_clocks", "import time\ntime.time = time.perf_counter = time.monotonic = time.process_time = lambda: 0.0"),
    Attack("lowers_the_precision", """
def ring_all_reduce(tensor):
    half = tensor.to(torch.float16).float() if tensor.is_floating_point() else tensor.float()
    dist.all_reduce(half)
    return half.to(tensor.dtype)
""", earns=frozenset({"memory"})),  # small whole numbers, which survive it
    Attack("computes_after_it_has_returned", """
import threading
def ring_all_reduce(tensor):
    out = torch.zeros_like(tensor)
    threading.Thread(target=lambda: (dist.all_reduce(tensor), out.copy_(tensor))).start()
    return out
"""),
]  # fmt: skip
