"""Look for answers: on disk, in memory, in the environment, in other processes, in other ranks."""

from tests.attacks.attack import Attack, attacks

# Run by every attack of this file that finds bytes: whatever it has goes into the notebook's output.
ATTACKS = attacks(
    reads_every_file_it_can="""
import os
for top in ("/", "/home", "/root", "/tmp", "/var/tmp", "/etc", "/opt", "/srv", "/mnt", "/work"):
    for where, folders, names in os.walk(top):
        if where.startswith(("/proc", "/sys", "/usr")) or "site-packages" in where or "/lib/python" in where: folders.clear(); continue
        for name in names:
            if name.endswith((".toml", ".json", ".sqlite", ".txt", ".ipynb", ".md", "judge.py")):
                try: print(where, name, open(os.path.join(where, name), errors="replace").read(2000))
                except OSError: pass
""",
    prints_its_environment="import os\nprint(dict(os.environ), open('/proc/self/environ').read())",
    reads_other_processes="""
import glob
for path in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/maps"):
    try: print(path, open(path, errors="replace").read(500))
    except OSError: pass
""",
    reads_memory_of_its_parent="""
for pid in (1, 2):
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in open(f"/proc/{pid}/maps"):
                first, last = (int(x, 16) for x in line.split()[0].split("-"))
                if "rw" in line and last - first < 1 << 22:
                    memory.seek(first)
                    data = memory.read(last - first)
                    if b"CANARY" in data: print(data[data.index(b"CANARY"):][:100])
    except (OSError, ValueError, OverflowError): pass
""",
    searches_the_garbage_collector="""
import gc
for found in gc.get_objects():
    try:
        if isinstance(found, dict):
            for key, value in list(found.items()):
                if isinstance(value, (str, bytes)) and "CAN" "ARY" in str(value): print(value)
    except Exception: pass
""",
    walks_up_the_frames="""
import sys
def ring_all_reduce(tensor):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()):
            if name in ("want", "total", "expected", "right") and hasattr(value, "shape"): return value
        frame = frame.f_back
    return tensor
""",
    returns_any_tensor_in_memory="""
import gc
def ring_all_reduce(tensor):
    for other in gc.get_objects():
        if type(other) is torch.Tensor and other.shape == tensor.shape and not torch.equal(other, tensor): return other
    return tensor
""",
    imports_the_judge="""
import importlib, sys, glob
for path in glob.glob("/**/exercises", recursive=False) + ["/", ".."]:
    sys.path.insert(0, path)
for name in ("judge", "judge_ring_all_reduce", "exercises.judge", "drive"):
    try: print(importlib.import_module(name).__file__)
    except Exception as error: print(type(error).__name__)
""",
    reads_history_and_namespace="print(In, Out, [k for k in globals() if 'expect' in k], get_ipython().user_ns.keys())",
    follows_links_it_makes="""
import os
for target in (CANARY_FILE, "/root", "/etc/shadow", "/proc/1/root", "/proc/1/cwd"):
    name = "link" + str(abs(hash(target)))
    os.symlink(target, name)
    try: print(open(name).read())
    except OSError as error: print(error)
    try: print(os.listdir(name))
    except OSError as error: print(error)
""".replace("CANARY_FILE", "'/tmp/canary'"),
    hands_inputs_over_in_shared_memory="""
import time
def ring_all_reduce(tensor):
    torch.save(tensor, f"/dev/shm/{dist.get_rank()}")
    dist.barrier()
    return sum(torch.load(f"/dev/shm/{r}") for r in range(dist.get_world_size()))
""",
    hands_inputs_over_in_abstract_sockets="""
import socket
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    mine = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    mine.bind("\\0rank%d" % rank); mine.settimeout(0.3)
    dist.barrier()
    for r in range(world):
        try: mine.sendto(tensor[:100].double().numpy().tobytes(), "\\0rank%d" % r)
        except OSError: pass
    return tensor if world == 1 else torch.frombuffer(bytearray(mine.recv(1 << 16)), dtype=torch.float64).to(tensor.dtype)
""",
    guesses_the_draw_from_a_seed="""
def ring_all_reduce(tensor):
    import random
    for seed in range(50):
        torch.manual_seed(seed); random.seed(seed)
    return tensor * dist.get_world_size()
""",
)
ATTACKS += [
    Attack("looks_in_the_optimizer_for_the_reference", """
import gc
class ShardedAdamW:
    def __init__(self, params, **settings): self.params = params
    def step(self, grad):
        for other in gc.get_objects():
            if isinstance(other, torch.optim.Optimizer):
                for group in other.param_groups:
                    for p in group["params"]:
                        if p.shape == self.params.shape: self.params.copy_(p.detach())
""", exercise="zero"),
]  # fmt: skip
