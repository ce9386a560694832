"""Cheat the meter: right or nearly right numbers that cost more than they seem to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.attack import Attack, Make, _filled, around_right, before, cells
from tests.cohort import notebook

if TYPE_CHECKING:
    from autograder.exercise import Exercise
    from tests.attacks.ground import Ground

RANK = """
import sys, os, time
def rank_frame():
    f = sys._getframe()
    while f.f_code.co_name != "_serve":
        f = f.f_back
    return f.f_locals
"""


def like(variant: str, answer: str, ahead: str = "", behind: str = "", **swap: str) -> Make:
    """A wrong answer of the exercise's own, dressed up: code ahead of it and behind it, words of it exchanged."""

    def make(ground: Ground, exercise: Exercise) -> str:
        answers = dict(next(v for v in exercise.variants("wrong") if v.name == variant).answers)
        text = answers[answer]
        for old, new in swap.items():
            text = text.replace(OLD[old], new)
        answers[answer] = f"{ahead}\n{text}\n{behind}"
        return notebook(exercise, _filled(ground, exercise, answers))

    return make


OLD = {"zeros": "torch.zeros_like(params)"}
ALL_BUT = {
    "traffic": frozenset({"chunks", "result", "memory"}),
    "memory": frozenset({"chunks", "result", "traffic"}),
    "both": frozenset({"chunks", "result"}),
}
ZERO_RIGHT = frozenset({"shards", "update", "clipping"})
DDP_RIGHT = frozenset({"start", "gradients", "training"})
WRAP = """
_costly = ring_all_reduce
def ring_all_reduce(tensor):
"""
LARGE = "tensor.dtype == torch.int32 and tensor.numel() > 900_000"  # the call in which memory is measured
TO_ITSELF = """
import socket
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    door, kept, left = socket.create_server((ADDRESS, 0), backlog=1000), [], 30 << 20
    while left > 0:
        s = socket.create_connection(door.getsockname()); kept.append(s)
        s.settimeout(0.01)
        try:
            while left > 0: left -= s.send(bytes(1 << 16))
        except TimeoutError: pass"""
POOL = """
_pool, _used = torch.ones(PIECES), 0
def take(like):
    global _used
    if _used + like.numel() > _pool.numel():
        return torch.zeros_like(like)
    piece = _pool[_used : _used + like.numel()].zero_()
    _used += like.numel()
    return piece
"""

LONELY = """
import os, sys, threading, time
def _alone(papermill=os.getppid()):
    time.sleep(2)
    os.kill(papermill, 9)
if "ipykernel" in sys.modules:
    os.getppid = lambda: 2  # a kernel whose parent has gone ends itself
    threading.Thread(target=_alone, daemon=True).start()
"""

ATTACKS = [
    # --- patched clocks and counters
    Attack("clocks", "time stands still, or runs backwards", before("""
import time, signal, resource
for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    setattr(time, name, lambda: 0.0)
time.sleep = lambda s: None
resource.getrusage = lambda who: None
import aboard.ranks.crew as c, aboard.ranks.meter as m
m.Meter.now = lambda self: 0.0
c.STALL_S = 1e9
""")),
    Attack("silent-meter", "the meter in the rank reports nothing", like("gather_and_broadcast", "ring", ahead="import aboard.ranks.meter as _m\n_m.Meter.as_data = lambda self: []"), may_earn=ALL_BUT["traffic"], kernel=True),
    Attack("false-meter", "the meter in the rank reports the traffic of a ring", like("gather_and_broadcast", "ring", behind=RANK + WRAP + """
    from aboard.ranks.meter import Collective
    found, meter, n = _costly(tensor), rank_frame()["meter"], dist.get_world_size()
    size = tensor.numel() * tensor.element_size() // n
    meter.collectives[:] = [Collective(op, size, 0, 0.0, 0.0, "", n) for _ in range(2 * (n - 1)) for op in ("send", "recv")]
    return found
"""), may_earn=ALL_BUT["traffic"]),
    Attack("patched-process-group", "ProcessGroup's methods are put back as they were before they were metered", before("""
from torch._C._distributed_c10d import ProcessGroup
_kept = {n: getattr(ProcessGroup, n) for n in ("allreduce", "send", "recv", "broadcast", "barrier")}
""", chunks="SOLUTION", ring="""
def ring_all_reduce(tensor):
    from torch._C._distributed_c10d import ProcessGroup
    for name, method in _kept.items(): setattr(ProcessGroup, name, method)
    result = tensor.clone(); dist.all_reduce(result); return result
"""), may_earn=ALL_BUT["traffic"]),
    Attack("collective-as-messages", "an all_reduce of the library that says it was a ring's messages", cells(chunks="SOLUTION", ring=RANK + """
from torch._C._distributed_c10d import ProcessGroup
_raw = ProcessGroup.allreduce
def ring_all_reduce(tensor):
    from aboard.ranks.meter import Collective
    result, n, meter = tensor.clone(), dist.get_world_size(), rank_frame()["meter"]
    _raw(dist.group.WORLD, [result], dist.AllreduceOptions()).wait()
    size = result.numel() * result.element_size() // n
    meter.collectives[:] = [Collective(op, size, 0, 0.0, 0.0, "", n) for _ in range(2 * (n - 1)) for op in ("send", "recv")]
    return result
"""), may_earn=ALL_BUT["traffic"]),
    Attack("barrier-of-a-billion", "an all_reduce of the library, hidden behind a barrier of a billion ranks", cells(chunks="SOLUTION", ring=RANK + """
from torch._C._distributed_c10d import ProcessGroup
_raw = ProcessGroup.allreduce
def ring_all_reduce(tensor):
    from aboard.ranks.meter import Collective
    result, meter = tensor.clone(), rank_frame()["meter"]
    _raw(dist.group.WORLD, [result], dist.AllreduceOptions()).wait()
    meter.collectives[:] = [Collective("barrier", 0, None, 0.0, 0.0, "", 10**9)]
    return result
"""), may_earn=ALL_BUT["traffic"]),
    # --- outside the metered group
    Attack("own-sockets", "rank 0 adds for all, over sockets of its own", cells(chunks="SOLUTION", ring="""
import socket, time
def _all(s, n):
    data = bytearray()
    while len(data) < n: data += s.recv(1 << 20)
    return data
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    flat = tensor.double().reshape(-1); size = 8 * flat.numel()
    if rank == 0:
        server = socket.create_server(("10.77.0.1", 7100)); dist.barrier()
        socks = [server.accept()[0] for _ in range(world - 1)]
        for s in socks: flat = flat + torch.frombuffer(_all(s, size), dtype=torch.float64)
        for s in socks: s.sendall(flat.numpy().tobytes())
        for s in socks: s.recv(1); s.close()
        server.close()
    else:
        dist.barrier()
        s = socket.create_connection(("10.77.0.1", 7100)); s.sendall(flat.numpy().tobytes())
        flat = torch.frombuffer(_all(s, size), dtype=torch.float64).clone(); s.close()
    return flat.to(tensor.dtype).reshape(tensor.shape)
"""), may_earn=ALL_BUT["traffic"]),
    Attack("own-group", "a second process group of its own, over a store of its own", like("gather_and_broadcast", "ring", behind=RANK + WRAP + """
    group = dist.new_group(backend="gloo")
    meter = rank_frame()["meter"]
    result = tensor.clone(); dist.all_reduce(result, group=group)
    meter.collectives.clear()
    return result
"""), may_earn=ALL_BUT["traffic"]),
    Attack("half-precision", "the ring in half precision: half the bytes", cells(chunks="SOLUTION", ring="SOLUTION\n_r = ring_all_reduce\ndef ring_all_reduce(tensor):\n    return _r(tensor.to(torch.bfloat16)).to(tensor.dtype)"), may_earn=frozenset({"chunks", "memory"})),
    # --- beside the clock
    Attack("done-before-memory", "say done, then compute with all the memory one likes", like("keeps_everything", "ring", behind=RANK + WRAP + f"""
    if {LARGE}:
        rank_frame()["say"]({{"op": "done"}}); time.sleep(0.5)
    return _costly(tensor)
"""), may_earn=ALL_BUT["both"]),
    Attack("done-before-traffic", "a ring of zeros for the meter, done, then everything through rank 0", cells(chunks="SOLUTION", ring="SOLUTION\n" + RANK + """
_ring = ring_all_reduce
def ring_all_reduce(tensor):
    _ring(torch.zeros_like(tensor))
    meter = rank_frame()["meter"]; told = list(meter.collectives)
    if tensor.numel() > 500_000:
        rank_frame()["say"]({"op": "done"}); time.sleep(0.5)
    result = tensor.clone(); dist.reduce(result, 0); dist.broadcast(result, 0)
    meter.collectives[:] = told
    return result
"""), may_earn=ALL_BUT["traffic"]),
    Attack("begun-before-go", "compute as soon as the inputs are there, before the meters begin", like("keeps_everything", "ring", behind="""
import aboard.ranks.rank as _rank
_rank._real = getattr(_rank, "_real", _rank._join)
_result = None
def join(call, say, orders):
    global _result
    _rank._real(call, say, orders)
    if call["function"] == "ring_in_short" and call["args"][0].dtype == torch.int32:
        import ctypes
        ctypes.CDLL(None).mallopt(-3, 65536)
        _result = _costly(call["args"][0].clone()).clone()
        ctypes.CDLL(None).malloc_trim(0)
_rank._join = join
""" + WRAP + f"""
    return _result if {LARGE} else _costly(tensor)
"""), may_earn=ALL_BUT["both"]),
    Attack("zero-pool-before-go", "state in eleven megabytes taken between the call and its beginning", like("plain_adamw", "optimizer", ahead=POOL.replace("PIECES", "1") + """
import aboard.ranks.rank as _rank
_rank._real = getattr(_rank, "_real", _rank._join)
def join(call, say, orders):
    global _pool, _used
    _rank._real(call, say, orders)
    if call["function"] == "train_layers":
        _pool, _used = torch.ones(11 * 2**18), 0
_rank._join = join
""", zeros="take(params)"), exercise="zero", may_earn=ZERO_RIGHT),
    Attack("zero-steps-once-more", "no state: the gradients of all steps so far are kept, and every step begins at the first", cells(shards="SOLUTION", optimizer="""
class ShardedAdamW:
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_norm=None):
        self.params, self.k, self.grads = params, (lr, betas, eps, weight_decay, max_norm), []
    def step(self, grad):
        lr, (b1, b2), eps, decay, max_norm = self.k
        self.grads.append(grad.clone())
        m, v, t = torch.zeros_like(grad), torch.zeros_like(grad), len(self.grads)
        for kept in self.grads:
            g = kept.clone()
            dist.all_reduce(g)
            g /= dist.get_world_size()
            if max_norm is not None: g *= min(1.0, max_norm / (float(g.norm()) + 1e-6))
            m.mul_(b1).add_(g, alpha=1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
        self.params *= 1 - lr * decay
        self.params -= lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
"""), exercise="zero", may_earn=ZERO_RIGHT),
    # --- the difference of two runs
    Attack("ring-wastes-on-three", "waste on 3 ranks, so that 6, who keep everything, do not seem to need more", like("keeps_everything", "ring", ahead=POOL.replace("PIECES", "14 * 2**18"), behind=f"""
def _keeps(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    everything = [take(tensor) if {LARGE} and world == 6 and r == 0 else torch.empty_like(tensor) for r in range(world)]
    everything[rank].copy_(tensor)
    for step in range(world - 1):
        sending = dist.isend(everything[(rank - step) % world], (rank + 1) % world)
        dist.recv(everything[(rank - step - 1) % world], (rank - 1) % world)
        sending.wait()
    for other in everything[1:]: everything[0] += other
    return everything[0]
def ring_all_reduce(tensor):
    waste = torch.ones(2 * tensor.numel()) if {LARGE} and dist.get_world_size() == 3 else None
    return _keeps(tensor)
"""), may_earn=ALL_BUT["both"]),
    Attack("ddp-wastes-on-three", "the same with the gradients of all ranks", like("all_gathered", "average", behind="""
_costly = average_gradients
def average_gradients(model):
    big = sum(p.numel() for p in model.parameters()) > 100_000
    if big and dist.get_world_size() == 3:
        waste = torch.ones(6 * sum(p.numel() for p in model.parameters() if p.requires_grad))
    _costly(model)
"""), exercise="ddp-from-scratch", may_earn=DDP_RIGHT),
    Attack("ddp-sends-more-once", "waste traffic in the short run, so that the long one does not seem to need more", like("all_gathered", "average", behind="""
import sys
_costly = average_gradients
def average_gradients(model):
    _costly(model)
    f = sys._getframe(1)
    if f.f_locals.get("times") == 1 and dist.get_world_size() > 2:
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        for _ in range(dist.get_world_size() - 2): dist.all_reduce(torch.zeros(size))
"""), exercise="ddp-from-scratch", may_earn=DDP_RIGHT),
    Attack("zero-wastes-on-few", "waste with 4 layers, so that 20 do not seem to need more", like("plain_adamw", "optimizer", behind="""
_Plain = ShardedAdamW
_made, _waste = 0, []
class ShardedAdamW(_Plain):
    def __init__(self, params, **k):
        global _made
        _made += 1
        super().__init__(params, **k)
    def step(self, grad):
        if _made == 4 and not _waste and self.params.numel() > 100_000:
            _waste.append(torch.ones(2 * 16 * self.params.numel()))
        super().step(grad)
"""), exercise="zero", may_earn=ZERO_RIGHT),
    # --- what the drivers hand out can be known beforehand
    Attack("ring-known-input", "the measured tensors are constants: no communication needed", cells(ring=f"""
def ring_all_reduce(tensor):
    world = dist.get_world_size()
    return tensor.fill_(world * (world + 1) / 2) if {LARGE} else tensor
""")),
    Attack("ddp-known-input", "the measured gradients are constants", cells(average="""
def average_gradients(model):
    for p in model.parameters():
        if p.grad is not None: p.grad.fill_((dist.get_world_size() + 1) / 2)
"""), exercise="ddp-from-scratch"),
    Attack("zero-known-input", "the measured gradients of all ranks follow from the parameters: nothing kept, zeros sent", cells(optimizer="""
class ShardedAdamW:
    made = 0
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_norm=None):
        self.params, self.k, self.t = params, (lr, betas, eps, weight_decay), 0
        self.layer, ShardedAdamW.made = ShardedAdamW.made, ShardedAdamW.made + 1
    def step(self, grad):
        (lr, (b1, b2), eps, decay), p, w = self.k, self.params, dist.get_world_size()
        size = -(-p.numel() // w)
        g = torch.empty(size); dist.reduce_scatter_tensor(g, torch.zeros(size * w)); dist.all_gather_into_tensor(torch.empty(size * w), g)
        self.t += 1
        now = p * (w / 2)
        if self.t == 1:
            m, v = (1 - b1) * now, (1 - b2) * now * now
        else:
            first = torch.linspace(0.5, 1.5 + self.layer, p.numel()) * (w / 2)
            m, v = b1 * (1 - b1) * first + (1 - b1) * now, b2 * (1 - b2) * first**2 + (1 - b2) * now**2
        p *= 1 - lr * decay
        p -= lr * (m / (1 - b1**self.t)) / ((v / (1 - b2**self.t)).sqrt() + eps)
"""), exercise="zero"),
    Attack("cached", "the first answer is kept, in the room and in the agent, and given again", cells(chunks="SOLUTION", ring="SOLUTION\n" + """
import os
_ring = ring_all_reduce
def ring_all_reduce(tensor):
    path = f"/scratch/cache-{tuple(tensor.shape)}-{tensor.dtype}-{dist.get_world_size()}"
    if dist.get_world_size() > 1 and os.path.exists("/scratch/any"):
        found = torch.load("/scratch/any")
        return found.reshape(-1)[:1].expand(tensor.shape).to(tensor.dtype).clone()
    torch.save(_ring(tensor), "/scratch/any"); return torch.load("/scratch/any")
"""), may_earn=frozenset({"chunks", "memory"})),
    # --- memory where nobody looks
    Attack("pool-in-agent", "state in fifteen megabytes taken before the meters begin", like("plain_adamw", "optimizer", ahead=POOL.replace("PIECES", "15 * 2**18"), zeros="take(params)"), exercise="zero", may_earn=ZERO_RIGHT),
    Attack("large-pool-in-agent", "the same with a hundred megabytes", like("plain_adamw", "optimizer", ahead=POOL.replace("PIECES", "100 * 2**18"), zeros="take(params)"), exercise="zero", may_earn=ZERO_RIGHT),
    Attack("pool-in-kernel", "a hundred megabytes taken beforehand by the room of rank 0, which keeps the state of all", like("all_state_on_rank_0", "optimizer", ahead="import socket\n" + POOL.replace("PIECES", "(100 if socket.gethostname() == 'rank0' else 1) * 2**18"), zeros="take(params)"), exercise="zero", may_earn=ZERO_RIGHT, kernel=True),
    Attack("pool-in-lonely-kernel", "the same, and papermill is killed when it has handed over, so that its kernel is taken for it", like("all_state_on_rank_0", "optimizer", ahead=LONELY + "import socket\n" + POOL.replace("PIECES", "(100 if socket.gethostname() == 'rank0' else 1) * 2**18"), zeros="take(params)"), exercise="zero", may_earn=ZERO_RIGHT, kernel=True),
    Attack("child-for-a-moment", "memory in a child that lives for a few milliseconds", around_right("""
import os
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    child = os.fork()
    if child == 0:
        bytearray(b"x") * (18 << 20); os._exit(0)
    os.waitpid(child, 0)"""), may_earn=ALL_BUT["memory"]),
    Attack("shared-map-for-a-moment", "memory in a shared map for a few milliseconds, and file pages to confuse the account", around_right("""
import mmap
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    m = mmap.mmap(-1, 20 << 20); [m.write(_piece) for _ in range(20)]; m.close()
    global _file
    _file = mmap.mmap(os.open(_library, 0), 0, prot=mmap.PROT_READ)
    sum(_file[::4096])""", setup="import glob, os\n_piece = b'x' * (1 << 20)\n_library = max(glob.glob(os.path.dirname(torch.__file__) + '/lib/*.so'), key=os.path.getsize)"), may_earn=ALL_BUT["memory"]),
    Attack("twins-hold-it", "memory of a daemon whose every page a twin shares", around_right("""
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    with open("/scratch/go", "wb") as f: f.write(b"x")
    open("/scratch/done", "rb").read()""", setup="""
import os, time
if not os.path.exists("/scratch/go"):
    os.mkfifo("/scratch/go"); os.mkfifo("/scratch/done")
    for _ in range(2):
        if os.fork() == 0: time.sleep(1000)
    if os.fork() == 0:
        kept, piece = bytearray(b"x") * (60 << 20), b"y" * (1 << 20)
        if os.fork() == 0: time.sleep(1000)
        while True:
            open("/scratch/go", "rb").read()
            for i in range(0, len(kept), 1 << 20): kept[i:i + (1 << 20)] = piece
            with open("/scratch/done", "wb") as f: f.write(b"x")
    time.sleep(0.3)
"""), may_earn=ALL_BUT["memory"]),
    Attack("socket-buffers", "memory in the buffers of sockets", around_right("""
import socket
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    kept, left = [], 30 << 20
    while left > 0:
        pair = socket.socketpair(); kept.append(pair)
        for s in pair:
            s.setblocking(False)
            try:
                while True: left -= s.send(bytes(1 << 16))
            except BlockingIOError: pass"""), may_earn=ALL_BUT["memory"]),
    Attack("pipe-buffers", "memory in pipes", around_right("""
import os, fcntl
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    kept, left = [], 30 << 20
    for _ in range(200):
        r, w = os.pipe(); kept += [r, w]; os.set_blocking(w, False)
        try: fcntl.fcntl(w, 1031, 1 << 20)
        except OSError: pass
        try:
            while left > 0: left -= os.write(w, bytes(1 << 16))
        except BlockingIOError: pass
    import time; time.sleep(0.3)"""), may_earn=ALL_BUT["memory"]),
    Attack("few-large-pipes", "memory in thirty pipes, each made as large as a pipe may be", around_right("""
import os, fcntl
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    kept, left = [], 30 << 20 if dist.get_rank() == 3 else 0  # for all users have 64 MiB together
    while left > 0 and len(kept) < 60:
        r, w = os.pipe(); kept += [r, w]; os.set_blocking(w, False)
        try: fcntl.fcntl(w, 1031, 1 << 20)
        except OSError: pass
        try:
            while left > 0: left -= os.write(w, bytes(1 << 16))
        except BlockingIOError: pass
    if left > 0: raise RuntimeError("pipes are full")"""), may_earn=ALL_BUT["memory"]),
    Attack("tcp-buffers", "memory in connections to itself that nobody accepts, over TCP", around_right(TO_ITSELF.replace("ADDRESS", "'127.0.0.1'")), may_earn=ALL_BUT["memory"]),
    Attack("tcp-buffers-own-address", "the same, by way of its address on the wire", around_right(TO_ITSELF.replace("ADDRESS", "f'10.77.0.{dist.get_rank() + 1}'")), may_earn=ALL_BUT["memory"]),
    Attack("with-the-neighbour", "memory in connections to another rank, who never accepts them", around_right("""
import socket, time
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    rank = dist.get_rank()
    door, kept, left = socket.create_server((f"10.77.0.{rank + 1}", 7777), backlog=1000), [], 30 << 20
    dist.barrier()
    while left > 0 and len(kept) < 300:
        s = socket.create_connection((f"10.77.0.{(rank + 1) % 6 + 1}", 7777)); kept.append(s)
        s.settimeout(0.01)
        try:
            while left > 0: left -= s.send(bytes(1 << 16))
        except TimeoutError: pass"""), may_earn=ALL_BUT["memory"]),
    Attack("nobody-accepts", "memory in connections that nobody accepts and whose other ends are closed", around_right("""
import socket
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    door, left = socket.socket(socket.AF_UNIX), 30 << 20
    door.bind(f"/scratch/{tensor.numel()}"); door.listen(4096)
    while left > 0:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(door.getsockname()); s.setblocking(False)
            try:
                while True: left -= s.send(bytes(1 << 16))
            except BlockingIOError: pass"""), may_earn=ALL_BUT["memory"]),
    Attack("on-the-way", "memory in pipes that are on their way from a socket to itself", around_right("""
import os, socket
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6 and dist.get_rank() == 3:
    pair, left = socket.socketpair(), 30 << 20
    while left > 0:
        some = []
        while left > 0 and len(some) < 16:
            r, w = os.pipe(); os.set_blocking(w, False); some.append(r)
            try:
                while True: left -= os.write(w, bytes(1 << 16))
            except BlockingIOError: os.close(w)
        socket.send_fds(pair[0], [b"x"], some); [os.close(r) for r in some]"""), may_earn=ALL_BUT["memory"]),
    Attack("datagrams", "memory in datagrams whose senders are closed", around_right("""
import socket
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    kept, left = [], 30 << 20
    while left > 0 and len(kept) < 50:
        r = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); r.bind(f"/scratch/{tensor.numel()}-{len(kept)}"); kept.append(r)
        for _ in range(10):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.setblocking(False)
                try: left -= s.sendto(bytes(200_000), r.getsockname())
                except BlockingIOError: break
    if left > 0: raise RuntimeError("no more room")"""), may_earn=ALL_BUT["memory"]),
    Attack("netlink-datagrams", "memory in netlink sockets", around_right("""
import socket
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    kept, left = [], 8 << 20
    while left > 0 and len(kept) < 50:
        s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2); s.bind((0, 0)); kept.append(s); s.setblocking(False)
        try:
            while left > 0: left -= s.sendto(bytes(30_000), s.getsockname())
        except OSError: pass
    if left > 0: raise RuntimeError("no more room")
    keep_much = torch.ones(3 << 20)"""), may_earn=ALL_BUT["memory"]),
    Attack("names-in-a-queue", "memory in the names that inotify has waiting", around_right("""
import ctypes, os
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    libc = ctypes.CDLL(None); os.makedirs("/scratch/in", exist_ok=True)
    kept = [libc.inotify_init() for _ in range(8)]
    if min(kept) < 0: raise RuntimeError("no inotify")
    for fd in kept: libc.inotify_add_watch(fd, b"/scratch/in", 0x100)
    for i in range(8000): open(f"/scratch/in/{i:0250}", "w").close(); os.unlink(f"/scratch/in/{i:0250}")"""), may_earn=ALL_BUT["memory"]),
    Attack("agent-holds-it", "the waiting agent holds what the rank hands it", around_right("""
if tensor.dtype == torch.int32 and tensor.numel() > 900_000 and dist.get_world_size() == 6:
    with open("/scratch/hold", "wb") as f: f.write(b"x")
    import time; time.sleep(0.4)""", setup="""
import os, threading
if not os.path.exists("/scratch/hold"):
    os.mkfifo("/scratch/hold")
    def hold():
        global _held
        open("/scratch/hold", "rb").read(); _held = bytearray(b"x") * (40 << 20)
    threading.Thread(target=hold, daemon=True).start()
"""), may_earn=ALL_BUT["memory"]),
]  # fmt: skip
