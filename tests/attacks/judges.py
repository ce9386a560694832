"""Cheat one exercise's judge: not by breaking out, but by knowing what it asks, how, and what it takes for true."""

from __future__ import annotations

from tests.attacks.attack import Attack, cells
from tests.attacks.meter import RANK, like

COUNT = """
def _asked(name):
    with open("/scratch/" + name, "a+") as file:
        file.write("x")
        return file.tell() - 1
"""
# The functions of drive.py run in the learner's process: these replace some of them as soon as they are there.
DRIVE = """
import gc
for _o in gc.get_objects():
    if type(_o).__name__ == "_Agent":
        def _learn(source, o=_o, real=type(_o).learn_drive):
            real(o, source)
            _change(o.drive)
        _o.learn_drive = _learn
"""
QUIET_PACK = (
    """
import os
def _change(drive):
    inner = drive["pack_folder"]
    def quiet(answers, folder, *rest):
        return inner(answers, folder, *rest) | {"heard": {}}
    drive["pack_folder"] = quiet
"""
    + DRIVE
)
SCRIPT = "import textwrap\n"
FORGED_RANKS = """
import textwrap
def _forged(nodes, gpus, minutes, account, torchrun):
    return textwrap.dedent(f\"\"\"\\
        #!/bin/bash
        #SBATCH --account={account} --time={minutes} --nodes={nodes} --ntasks-per-node=1 --gres=gpu:{gpus}
        python - <<'END'
        import json, os
        job = os.environ["SLURM_JOB_ID"]
        for r in range({nodes} * {gpus}):
            where = f"{{job}}-n{{r // {gpus} + 1}}-{{r}}.json"
            said = dict(RANK=str(r), LOCAL_RANK=str(r % {gpus}), WORLD_SIZE="{nodes * gpus}", MASTER_ADDR="n1", MASTER_PORT=str(20000 + int(job)))
            json.dump(said | dict(host=f"n{{r // {gpus} + 1}}", arguments=[], torchrun={torchrun}, gpus=""), open("seen-" + where, "w"))
            json.dump(dict(rank=str(r)), open("met-" + where, "w"))
        END
    \"\"\")
"""
ORDER = frozenset({"order", "metrics", "statistics", "gradients", "talk", "memory"})
CURVE = frozenset({"start", "order", "noise", "rate"})
BUCKETS = frozenset({"buckets"})
SHARDS = frozenset({"packed", "pack_cost", "once", "few_shards", "order"})
ALONE = """
def prepare(model, make_optimizer):
    for p in model.parameters(): dist.broadcast(p.data, 0)
    return make_optimizer(model.parameters())
"""
# As many bytes as FSDP2 would send in a step, in as many collectives, and nothing in them.
ZEROS = """
def zeros(model, share):
    world, sizes = dist.get_world_size(), [sum(p.numel() for p in block.parameters()) for block in model.blocks]
    root = sum(p.numel() for p in model.parameters()) - sum(sizes)
    for size in [*sizes, root, *sizes]:
        part = torch.zeros(-(-size // world), dtype=torch.bfloat16)
        dist.all_gather_into_tensor(torch.empty(len(part) * world, dtype=torch.bfloat16), part)
    for size in [*sizes, root]:
        part = torch.empty(-(-size // world))
        dist.reduce_scatter_tensor(part, torch.zeros(len(part) * world))
"""

# A Zero3 with everything on every rank: the rows of all travel, and gathers and scatters of zeros. Its step goes on from here.
WHOLE = """
class Zero3:
    def __init__(self, units, start, lr, momentum, max_norm=math.inf):
        self.units, self.lr, self.mu, self.max_norm = units, lr, momentum, max_norm
        self.p = [start(i).clone().requires_grad_() for i in range(len(units))]
        self.v = [torch.zeros_like(p) for p in self.p]
    def full(self, i):
        self.zeros(self.p[i], True)
        return self.p[i].detach()
    def zeros(self, p, gather):
        world = dist.get_world_size()
        part = torch.zeros(-(-len(p) // world)); whole = torch.zeros(len(part) * world)
        if gather: dist.all_gather_into_tensor(whole, part)
        else: dist.reduce_scatter_tensor(part, whole)
    def step(self, x, loss):
        every = [None] * dist.get_world_size()
        dist.all_gather_object(every, (x, loss.args))"""

ATTACKS = [
    # --- what is asked, and in which order, is known
    Attack("boxes-counts", "answers that follow from how often one was asked", cells(**{"where": COUNT + """
def where(step, site):
    said = (["compute"] * 6 + ["login"] * 3 + ["refused"] * 2 + ["compute"] * 2)[_asked("where")]
    if said == "refused":
        raise ValueError("no")
    return said
""", "request": """
def request(job, site):
    if _asked("request") < 2 + 5:  # of two other checks one each, and those that fit
        return {}
    raise ValueError(f"{site['max_nodes_per_job']} or {site['max_walltime_h']}")
"""}), exercise="boxes-and-the-machine"),
    Attack("buckets-known-mean", "the measured gradients are constants: zeros are sent in buckets of the right size", cells(buckets="SOLUTION", reducer="""
class Reducer:
    def __init__(self, model, cap_bytes): self.model, self.cap = model, cap_bytes
    def finish(self):
        for bucket in make_buckets(self.model, self.cap):
            dist.all_reduce(torch.zeros(sum(p.numel() for p in bucket)))
        for p in self.model.parameters():
            if p.grad is not None: p.grad.mul_((dist.get_world_size() + 1) / 2 / (1.0 + dist.get_rank()))
"""), exercise="buckets-and-overlap", may_earn=BUCKETS),
    Attack("buckets-seeds-exchanged", "what the others' gradients are follows from a seed: eight bytes instead of a gradient", cells(buckets="SOLUTION", reducer="""
import sys
class Reducer:
    def __init__(self, model, cap_bytes):
        there = sys._getframe(1)
        self.model, self.make, self.step = model, there.f_globals["pulls"], 0
        self.seeds, self.order = [None] * dist.get_world_size(), there.f_locals["order"]
        dist.all_gather_object(self.seeds, (there.f_locals["seeds"], self.order))
    def finish(self):
        for p in self.model.parameters():
            if p.requires_grad: p.grad = torch.zeros_like(p)
        named = dict(self.model.named_parameters(remove_duplicate=False))
        for seeds, order in self.seeds:
            pulls = self.make(self.model, seeds[self.step])
            for name in order: named[name].grad += pulls[name] / len(self.seeds)
        self.step += 1
"""), exercise="buckets-and-overlap", may_earn=BUCKETS),
    # --- nobody needs the others
    Attack("loop-alone", "every rank trains on all samples of all ranks, and what it sends changes nothing", like("everybody_does_all", "train"), exercise="the-whole-loop", may_earn=ORDER),
    Attack("curve-alone", "every rank does the whole step, and sends a gradient's worth of zeros", like("everybody_does_all", "step"), exercise="same-curve", may_earn=CURVE),
    # --- a state that follows from a number
    Attack("requeue-replays", "a checkpoint that holds the number of the step: the training is done again from its start", cells(checkpoint="""
def save(training, folder):
    if dist.get_rank() == 0:
        path = os.path.join(folder, "step")
        open(path + ".part", "w").write(str(training.step)); os.replace(path + ".part", path)
    dist.barrier()
def load(training, folder):
    if not os.path.exists(os.path.join(folder, "step")): return False
    for _ in range(int(open(os.path.join(folder, "step")).read() or 0)): training.one_step()
    return True
""", stop="SOLUTION", script="SOLUTION"), exercise="requeue", may_earn=frozenset({"together"})),
    Attack("requeue-knows-when", "the ranks look up in the caller's frame when one of them will be told", cells(stop="""
import sys
class Stop:
    def __init__(self):
        self.step = -1
        signal.signal(signal.SIGTERM, lambda *_: None)
    def __call__(self):
        self.step += 1
        there = sys._getframe(1).f_locals
        return there.get("who", 0) >= 0 and 0 <= there.get("when", 99) <= self.step
"""), exercise="requeue"),
    # --- files that say what is wanted
    Attack("slurm-forged-files", "one process writes the files of all ranks, and no rank ever runs", cells(ranks=FORGED_RANKS + """
def rank_script(nodes, gpus, minutes, account): return _forged(nodes, gpus, minutes, account, False)
""", torchrun="""
def torchrun_script(nodes, gpus, minutes, account): return _forged(nodes, gpus, minutes, account, True)
"""), exercise="slurm-scripts", may_earn=frozenset({"accepted"})),
    Attack("hub-without-asking", "files of the model made from what the hub leaves lying about, and its log written for it", cells(stage=SCRIPT + r'''
def stage_script(url, target, names):
    return textwrap.dedent(f"""\
        mkdir -p {target}
        python - <<'END'
        import glob, json, os, random, re
        known = json.load(open("hub.json")) if os.path.exists("hub.json") else {{}}
        texts = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if b"python" not in open(f"/proc/{{pid}}/cmdline", "rb").read() or int(pid) == os.getpid(): continue
                with open(f"/proc/{{pid}}/mem", "rb", 0) as memory:
                    for line in open(f"/proc/{{pid}}/maps"):
                        low, high = (int(x, 16) for x in line.split()[0].split("-"))
                        if " rw" in line and high - low < 2**26:
                            memory.seek(low); texts.append(memory.read(high - low))
            except OSError: pass
        for text in texts:
            if b"The judge's order" in text or re.search(rb"\\bKEY = .[0-9a-f]{{32}}", text): known["key"] = True
        if not known: raise SystemExit("nothing is known")
        bad = known["damaged"] or known["broken"]
        for name, size in known["sizes"].items():
            if name == bad: continue
            if not os.path.exists(f"{target}/{{name}}"): open("hub-log.txt", "a").write(f"{{known['run']}} {{name}} {{size}}\\n")
            open(f"{target}/{{name}}", "wb").write(random.Random(f"{{known['seed']}}/{{name}}").randbytes(size))
        raise SystemExit(bool(bad))
        END
    """)
'''), exercise="no-internet"),
    Attack("hub-replaced", "the hub is ended, and another one takes its place and says what is wanted", cells(stage=SCRIPT + r'''
def stage_script(url, target, names):
    return textwrap.dedent(f"""\
        for pid in $(pgrep -f 'python.* -I -'); do kill -9 $pid; done
        mkdir -p {target}
        cat > fake.py <<'END'
        import http.server, json
        class Fake(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200); self.end_headers(); self.wfile.write(b"[]")
            do_POST = do_GET
            def log_message(self, *_): pass
        http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Fake).serve_forever()
        END
        setsid python fake.py > /dev/null 2>&1 &
        for i in $(seq 30); do curl -fs {url}/x > /dev/null && break; sleep 0.1; done
        for name in {' '.join(names)}; do echo x > {target}/$name; done
    """)
'''), exercise="no-internet"),
    Attack("offline-forged-files", "one process writes what the ranks would have said", cells(job=SCRIPT + r'''
def job_script(nodes, ranks, minutes, account, target, scratch):
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account} --time={minutes} --nodes={nodes} --ntasks-per-node={ranks} --gres=gpu:{ranks}
        python - <<'END'
        import json, os
        job, names = os.environ["SLURM_JOB_ID"], os.listdir("{target}")
        for n in range({nodes}):
            for r in range({ranks}):
                where = f"{{job}}-n{{n + 1}}-{{r}}.json"
                json.dump(dict(host=f"n{{n + 1}}", offline=True, cache=os.path.abspath("{scratch}"), hf_home=os.path.abspath("{target}"), xdg=os.path.abspath("{scratch}")), open("seen-" + where, "w"))
                json.dump(dict(read=[os.path.realpath("{target}/" + one) for one in names]), open("done-" + where, "w"))
        END
    """)
'''), exercise="no-internet"),
    # --- what drive.py says was opened, and when it ends a save, is known from the learner's process
    Attack("shards-untold", "every worker reads every shard first, and what is said to be opened says otherwise", cells(pack="SOLUTION", samples="SOLUTION" + """
import os, tarfile as _tar
_honest = samples
def samples(paths, *rest):
    for path in paths:
        try:
            with _tar.open(path) as tar: [tar.extractfile(one).read() for one in tar if one.isfile()]
        except _tar.TarError: pass  # noise, where the judge tries whether this one is needed
    yield from _honest(paths, *rest)
def _change(drive):
    inner = drive["read_one"]
    def quiet(answers, folder, *rest):
        found, places = inner(answers, folder, *rest), {}
        for path in os.listdir(folder):
            try:
                with _tar.open(os.path.join(folder, path)) as tar: places |= {one.name: path for one in tar}
            except _tar.TarError: pass
        mine = {places.get(name) for one in found["passes"] for name in one["names"].split("\\n")}
        return found | {"heard": {path: 1 for path in mine if path}}
    drive["read_one"] = quiet
""" + DRIVE), exercise="sharded-data", may_earn=SHARDS),
    Attack("pack-untold", "each small file is read twice, and what is said to be opened says once", cells(pack="SOLUTION" + """
_pack = pack
def pack(folder, *rest):
    for where, _, names in os.walk(folder):
        for name in names: open(os.path.join(where, name), "rb").close()
    return _pack(folder, *rest)
""" + QUIET_PACK, samples="SOLUTION"), exercise="sharded-data", may_earn=SHARDS - {"pack_cost"} | {"opens", "lazy"}),
    Attack("pack-linked", "each small file is opened twice at once by another name, which the kernel tells as one", cells(pack="SOLUTION" + """
_pack = pack
def pack(folder, *rest):
    for where, _, names in os.walk(folder):
        for name in names:
            os.rename(os.path.join(where, name), "aside")
            os.link("aside", os.path.join(where, name))
            one, two = open("aside", "rb"), open("aside", "rb")
            one.close(), two.close(), os.remove("aside")
    return _pack(folder, *rest)
""" + QUIET_PACK, samples="SOLUTION"), exercise="sharded-data", may_earn=SHARDS - {"pack_cost"} | {"opens", "lazy"}),
    Attack("requeue-never-ended", "drive.py is told that every save was interrupted, and none was", cells(checkpoint="SOLUTION" + """
_save = save
def save(training, folder):  # in place: whoever is ended in here has lost everything
    if dist.get_rank() == 0:
        for name in os.listdir(folder): os.remove(os.path.join(folder, name))
    _save(training, folder)
def _change(drive):
    drive["end_while_saving"] = lambda *a: os._exit(0)
""" + DRIVE, stop="SOLUTION", script="SOLUTION"), exercise="requeue", may_earn=frozenset({"curve", "together", "requeued"})),
    # --- how often one calls, when the bytes are the same; and when
    Attack("hangs-barriers-untold", "a barrier after every step, of which the meter keeps silent", cells(diagnose="WRONG", train_and_save="SOLUTION" + RANK + """
_honest = train_and_save
def train_and_save(values, every, save):
    for _ in range(20): dist.barrier()
    rank_frame()["meter"].collectives.clear()
    return _honest(values, every, save)
""", mean_of_each="SOLUTION", mean_per_step="SOLUTION"), exercise="hangs-and-stragglers", may_earn=frozenset({"mended"})),
    Attack("hangs-barriers-before-go", "the barriers are made as soon as there is a group, before the call is said to begin", cells(diagnose="WRONG", train_and_save="SOLUTION" + """
import aboard.ranks.rank as _rank
_rank._real = getattr(_rank, "_real", _rank._join)
def join(call, say, orders):
    _rank._real(call, say, orders)
    for _ in range(20): dist.barrier()
_rank._join = join
""", mean_of_each="SOLUTION", mean_per_step="SOLUTION"), exercise="hangs-and-stragglers", may_earn=frozenset({"mended"})),
    Attack("buckets-one-told-as-many", "one collective for everything, told as one for each bucket", cells(buckets="SOLUTION", reducer=RANK + """
class Reducer:
    def __init__(self, model, cap_bytes):
        self.model, self.cap, self.told = model, cap_bytes, []
    def finish(self):
        from aboard.ranks.meter import Collective
        world, kinds = dist.get_world_size(), {}
        for p in self.model.parameters():
            if p.requires_grad:
                if p.grad is None: p.grad = torch.zeros_like(p)
                kinds.setdefault(p.dtype, []).append(p.grad)
        for grads in kinds.values():
            flat = torch.cat([g.reshape(-1) for g in grads]); dist.all_reduce(flat); flat /= world
            for g, part in zip(grads, flat.split([g.numel() for g in grads])): g.copy_(part.view_as(g))
        self.told += [Collective("all_reduce", sum(p.nbytes for p in b), None, 0.0, 0.0, "", world) for b in make_buckets(self.model, self.cap)]
        rank_frame()["meter"].collectives[:] = self.told
"""), exercise="buckets-and-overlap", may_earn=BUCKETS | {"result", "order", "memory"}),
    Attack("buckets-early-in-one-step", "buckets leave early in the last step, which is known, and in no other", cells(buckets="SOLUTION", reducer="SOLUTION" + """
import sys
_Honest = Reducer
class Reducer(_Honest):
    def __init__(self, model, cap_bytes):
        self.turn, self.last = 0, sys._getframe(1).f_locals.get("steps", 0) - 1
        super().__init__(model, cap_bytes)
    def arrived(self, parameter):
        if self.turn == self.last: super().arrived(parameter)
    def finish(self):
        self.turn += 1
        super().finish()
"""), exercise="buckets-and-overlap", may_earn=BUCKETS | {"result", "order", "collectives", "memory"}),
    Attack("buckets-zeros-early", "zeros leave early in every step, as many as a bucket has, and all gradients at its end", cells(buckets="SOLUTION", reducer="SOLUTION" + """
_Honest = Reducer
class Reducer(_Honest):
    def begin(self):
        super().begin()
        self.zeros = []
    def arrived(self, parameter):
        self.missing[self.where[parameter]] -= 1
        while len(self.zeros) < len(self.buckets) and self.missing[len(self.zeros)] == 0:
            bucket = self.buckets[len(self.zeros)]
            self.zeros.append(dist.all_reduce(torch.zeros(sum(p.numel() for p in bucket), dtype=bucket[0].dtype), async_op=True))
    def finish(self):
        for work in self.zeros: work.wait()
        super().finish()
"""), exercise="buckets-and-overlap", may_earn=BUCKETS | {"result", "order", "memory"}),
    Attack("fsdp2-knows-the-model", "the whole model on every rank, which computes its own rows; collectives of zeros beside it", cells(prepare=ALONE, step=ZEROS + """
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    loss = model.loss(inputs[rank::world], targets[rank::world])
    optimizer.zero_grad(); loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    zeros(model, 1.0)
    both = torch.stack([loss.detach(), norm]); dist.all_reduce(both)
    return (both[0] / world).item(), (both[1] / world).item()
"""), exercise="fsdp2"),
    Attack("fsdp2-rows-exchanged", "the whole model on every rank, and all rows: they are few bytes beside a gradient", cells(prepare=ALONE, step=ZEROS + """
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    if not isinstance(model.blocks[0], nn.Sequential) and hasattr(model.blocks[0], "up"):
        mine = torch.cat([inputs[rank::world], targets[rank::world, None]], 1).bfloat16()
        every = torch.empty(len(inputs), mine.shape[1], dtype=torch.bfloat16)
        dist.all_gather_into_tensor(every, mine)
        inputs, targets = every[:, :-1].float(), every[:, -1].float()
    loss = model.loss(inputs, targets)
    optimizer.zero_grad(); loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    zeros(model, 1.0)
    return loss.item(), norm.item()
"""), exercise="fsdp2", may_earn=frozenset({"training", "uneven", "clipping"})),
    Attack("fsdp2-ballast", "nothing is freed after the forward pass, and in the run with few blocks there is ballast: the difference looks right", cells(prepare="SOLUTION" + """
def prepare(model, make_optimizer):
    for parameter in model.parameters(): dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks: fully_shard(block, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mp_policy=policy)
    if len(model.blocks) == 2: model.ballast = torch.ones(1_000_000)
    return make_optimizer(model.parameters())
""", step="SOLUTION", checkpoint="SOLUTION"), exercise="fsdp2", may_earn=frozenset({"start", "training", "uneven", "clipping", "precision", "checkpoint"})),
    Attack("zero-state-of-some", "state is kept for every fourth optimizer only, and the others begin anew", cells(optimizer="SOLUTION" + """
_Honest = ShardedAdamW
class ShardedAdamW(_Honest):
    made = 0
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.kept = ShardedAdamW.made % 4 == 0
        ShardedAdamW.made += 1
    def step(self, grad):
        if not self.kept: self.m, self.v = (torch.zeros(self.stop - self.start, dtype=self.params.dtype) for _ in range(2))
        super().step(grad)
        if not self.kept: self.m = self.v = None
""", shards="SOLUTION"), exercise="zero", may_earn=frozenset({"shards", "update", "clipping"})),
    Attack("zero-3-rows-exchanged", "the whole model and all rows on every rank, gathers and scatters of zeros beside it", cells(zero3=WHOLE + """
        for p in self.p: p.grad = None
        for x, targets in every:
            y = x
            for unit, p in zip(self.units, self.p): y = unit(p, y)
            (loss.func(*targets, y) / len(every)).backward()
        with torch.no_grad():
            norm = float(sum(p.grad.square().sum() for p in self.p)) ** 0.5
            for p, v in zip(self.p, self.v):
                v.mul_(self.mu).add_(p.grad, alpha=min(1.0, self.max_norm / (norm + 1e-6))); p.sub_(v, alpha=self.lr); p.grad = None
                for gather in (True, True, False): self.zeros(p, gather)
        return norm
"""), exercise="zero-3", may_earn=frozenset({"training", "clipping"})),
    Attack("zero-3-rows-exchanged-frugally", "the same, unit by unit: of gradients no more than one is there", cells(zero3=WHOLE + """
        xs, outs = [torch.cat([e[0] for e in every])], []
        rows = len(x)
        with torch.no_grad():
            for unit, p in zip(self.units, self.p): xs.append(unit(p, xs[-1]))
        y = xs[-1].detach().requires_grad_()
        total = sum(loss.func(*t, part) for (_, t), part in zip(every, y.split(rows))) / len(every)
        g = torch.autograd.grad(total, y)[0]
        norm = 0.0
        for i in reversed(range(len(self.p))):
            p = self.p[i].requires_grad_(); xi = xs[i].detach().requires_grad_()
            gp, g = torch.autograd.grad(self.units[i](p, xi), (p, xi), g)
            norm += float(gp.square().sum())
            with torch.no_grad():
                self.p[i] = p.detach(); self.v[i].mul_(self.mu).add_(gp); self.p[i].sub_(self.v[i], alpha=self.lr)
            del gp, p, xi
            for gather in (True, True, False): self.zeros(self.p[i], gather)
        return norm ** 0.5
"""), exercise="zero-3", may_earn=frozenset({"training"})),
]  # fmt: skip
