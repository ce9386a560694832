"""Look for answers: on disk, in memory, in the environment, through links, in what other ranks hold."""

from tests.attacks.attack import Attack, before, cells, inside

READ_ALL = """
import os
def read(path):
    with open(path, "rb") as file:
        got((path, file.read(300)))
"""

ATTACKS = [
    Attack("disk", "walk the whole disk for judges, tests, notebooks and secrets", before("""
import os
for folder, inner, names in os.walk("/"):
    inner[:] = [n for n in inner if os.path.join(folder, n) not in ("/proc", "/sys", "/usr")]
    for name in names:
        path = os.path.join(folder, name)
        if name in ("judge.py", "exercise.md", "exercise.toml", "result.json", "id_secret") and "/autograder/judge.py" not in path and "site-packages" not in path:
            attempt(lambda: (path, open(path).read(500)))
        if name.endswith((".ipynb", ".sqlite")) and "site-packages" not in path and "/.executed" not in path:
            attempt(lambda: (path, open(path, "rb").read(500)))
"""), alone=True),
    Attack("known-paths", "open what is known to be there: course, results, submissions, home", before(READ_ALL + """
for path in ("@COURSE@/exercises/ring-all-reduce/judge.py", "@COURSE@/exercises/ring-all-reduce/exercise.md",
             "@OUT@/alice/ring-all-reduce/result.json", "@SUBMISSIONS@/alice/ring-all-reduce.ipynb",
             "@HOME@/.ssh/id_secret", "/etc/shadow", "/root/.bashrc", "/proc/kcore", "/dev/mem"):
    attempt(read, path)
    attempt(os.listdir, os.path.dirname(path)) if "@" not in path and path.startswith("@COURSE@") else None
"""), alone=True),
    Attack("relative-paths", "climb out by .., by the root and working folder of other processes, by inherited descriptors", before(READ_ALL + """
for start in ("..", "../..", "/proc/1/root", "/proc/1/cwd", "/proc/self/root/..", "/proc/2/root", "/proc/2/cwd/.."):
    for rest in ("@HOME@/.ssh/id_secret", "@OUT@/alice/ring-all-reduce/result.json", "@COURSE@/exercises/zero/judge.py"):
        attempt(read, start + "/" + rest)
for fd in range(3, 512):
    attempt(lambda: got(os.listdir(fd)) if os.path.isdir(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}") != "/scratch" else 1 / 0)
    attempt(lambda: os.stat("@HOME@/.ssh/id_secret", dir_fd=fd) if False else os.open("../../../@HOME@/.ssh/id_secret", 0, dir_fd=fd))
"""), alone=True),
    Attack("links", "links out of the scratch folder, read here and left for the grader to follow", before("""
import os
for number, target in enumerate(("@HOME@/.ssh/id_secret", "@OUT@", "@COURSE@/exercises/zero/judge.py", "@SUBMISSIONS@/alice/ring-all-reduce.ipynb")):
    for name in (f"link{number}", ["result.json", "feedback.html", ".executed.ipynb", ".door"][number]):
        attempt(lambda: (os.symlink(target, name), None)[1] or open(name).read(300))
    attempt(lambda: (os.link(target, f"hard{number}"), open(f"hard{number}").read(300)))
"""), alone=True),
    Attack("objects", "search everything the garbage collector knows", before("""
import gc
for o in gc.get_objects():
    if type(o).__name__ in ("Judge", "Draw", "Learner", "Grader", "Course", "Exercise", "Sandbox", "Submission", "CheckResult"):
        got(type(o))
    if type(o) is dict:
        for v in list(o.values()):
            if type(v) is str and ("CANA" + "RY-" in v or "BEGIN" + " SOLUTION" in v or "secret-" + "seed" in v):
                got(v)
"""), kernel=True),
    Attack("raw-memory", "search all bytes of the own process for secrets the fork may have left there", before("""
import re
found = set()
with open("/proc/self/mem", "rb", 0) as memory:
    for line in open("/proc/self/maps"):
        low, high = (int(x, 16) for x in line.split()[0].split("-"))
        if " rw" not in line or high - low > 2**28 or "vsyscall" in line:
            continue
        try:
            memory.seek(low)
            found |= set(re.findall(b"CANA" + b"RY-[0-9a-f]{16}-[a-z]+|secret-" + b"seed-[0-9a-f]+", memory.read(high - low)))
        except (OSError, ValueError, OverflowError):
            pass
if found:
    got(found)
""")),
    Attack("frames", "climb the stack of the call for what the judge expects", inside("""import sys
frame = sys._getframe()
while frame is not None:
    for name, value in list(frame.f_locals.items()):
        if name in ("want", "right", "total", "expected", "likely", "draw", "learner", "inputs", "shards"):
            got((frame.f_code.co_name, name))
        if type(value) is dict and len(value.get("args", [])) > 1:
            got("arguments of others")
    frame = frame.f_back""")),
    Attack("history", "In, Out and whatever the shell remembers", before("""
for name, value in list(globals().items()) + list(vars(get_ipython()).items()):
    text = repr(value)[:20000]
    if "CANA" + "RY-" in text or "def result" + "(learner" in text or "from autograder" + ".judge" in text:
        got((name, text[:200]))
attempt(lambda: 1 / ([r for r in get_ipython().history_manager.get_range(raw=True) if "judge" in r[2] and "manager" not in r[2]] != []))
""")),
    Attack("environment", "variables, here and of every process that can be seen", before("""
import os
names = {"SECRET_TOKEN", "SSH_AUTH_SOCK", "USER", "LOGNAME", "SUDO_USER"} & set(os.environ)
if names:
    got(names)
for pid in os.listdir("/proc"):
    for name in ("environ", "cmdline"):
        try:
            text = open(f"/proc/{pid}/{name}", "rb").read()
        except OSError:
            continue
        if b"CANA" + b"RY-" in text or b"@HOME@" in text:
            got((pid, text[:200]))
"""), alone=True),
    Attack("course-tools", "use the grader's own modules to load judges, courses and results", before("""
from pathlib import Path
def course():
    from autograder.exercise import Course
    found = Course.find(None).exercises()
    return [e.solution() for e in found] if found else 1 / 0
def judge():
    import autograder.judge as j, autograder.exercise as e
    return j.load_judge(e.load_exercise(Path("@COURSE@/exercises/ring-all-reduce")))
def around():
    import autograder
    return next(p for p in Path(autograder.__file__).parents[1].rglob("judge.py") if "site-packages" not in str(p) and p.parent.name != "autograder").read_text()
def kept():
    from autograder.store import ingest
    return ingest(Path("@OUT@")) or 1 / 0
for f in (course, judge, around, kept):
    attempt(f)
"""), alone=True),
    Attack("guess-the-draw", "make the judge's draws again from likely seeds, and return their sum", cells(ring="""
def ring_all_reduce(tensor):
    from autograder.draw import Draw
    world = dist.get_world_size()
    for seed in ("", "0", "s", "seed", "secret", "None"):
        draw = Draw(seed, "ring-all-reduce", "result")
        draw.shuffled((torch.float32, torch.float64, torch.bfloat16, torch.int64))
        made = [draw.tensor(*tensor.shape, dtype=tensor.dtype, low=-50, high=50) for _ in range(world)]
        if any(torch.equal(m, tensor) for m in made):
            return sum(made)
    return tensor * world + 1
""")),
    Attack("channel", "read the grader's socket for orders meant for others", before("""
import os, socket
for fd in range(3, 512):
    try:
        s = socket.socket(fileno=os.dup(fd))
        s.setblocking(False)
        data = s.recv(1 << 20, socket.MSG_PEEK)
    except OSError:
        continue
    if b"CANA" + b"RY" in data or b"want" in data or len(data) > 100_000:
        got(data[:200])
    s.detach()
""")),
    Attack("others-inputs", "rank r takes its neighbours' inputs from their memory, folders or descriptors", inside("""import os
hers = [os.getpid()]  # and what it comes from: her room's agent and, under the other engine, her kernel
while hers[-1] > 1:
    status = open(f"/proc/{hers[-1]}/status").read()
    hers.append(int(status.partition("PPid:")[2].split()[0]))
for pid in os.listdir("/proc"):
    if pid.isdigit() and int(pid) not in hers:
        attempt(lambda: open(f"/proc/{pid}/mem", "rb").read(1))
        attempt(lambda: os.listdir(f"/proc/{pid}/fd"))
for folder in ("/scratch", "/dev/shm", "/tmp"):
    names = [n for n in os.listdir(folder) if "rank" in n or n.endswith((".pt", ".bin"))]
    if names:
        got(names)""")),
    Attack("answers-of-zero", "the same for the optimizer: imports, caller, files", before("""
import sys, os
class ShardedAdamW:
    def __init__(self, params, **settings):
        self.params = params
    def step(self, grad):
        frame = sys._getframe(1)
        while frame:
            for name in ("want", "case", "scales", "targets", "mean"):
                if name in frame.f_locals:
                    raise RuntimeError("ESC" + "APED " + name)
            frame = frame.f_back
""", optimizer="pass"), exercise="zero"),
    Attack("answers-of-ddp", "the same for data parallelism: the caller's frame holds this rank's seed only", cells(broadcast="""
import sys
def broadcast_model(model):
    seeds = sys._getframe(1).f_locals.get("seeds")
    if seeds:
        raise RuntimeError("ESC" + "APED seeds")
    torch.manual_seed(sys._getframe(1).f_locals["seed"])
"""), exercise="ddp-from-scratch", may_earn=frozenset()),
]  # fmt: skip
