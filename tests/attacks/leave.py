"""Leave early: end the process, the agent, the parent, or become another program."""

from tests.attacks.attack import Attack, before, inside

ATTACKS = [
    Attack("sys-exit", "sys.exit(0) in a cell and in a rank", before("import sys; sys.exit(0)", ring="import sys\ndef ring_all_reduce(t):\n    sys.exit(0)"), kernel=True, alone=True),
    Attack("os-exit", "os._exit(0) in a cell", before("import os; os._exit(0)"), kernel=True, alone=True),
    Attack("os-exit-in-rank", "os._exit(0) in every rank", inside("import os; os._exit(0)")),
    Attack("exit-in-thread", "SystemExit in a thread, at exit, in __del__ and in a signal handler", before("""
import threading, atexit, sys, signal
def leave(*a): raise SystemExit(0)
threading.Thread(target=leave).start(); atexit.register(leave); sys.excepthook = leave; threading.excepthook = leave
class D:
    __del__ = leave
D(); signal.signal(signal.SIGALRM, leave); signal.setitimer(signal.ITIMER_REAL, 0.01)
import time; time.sleep(0.1)
"""), alone=True),
    Attack("last-words", "an exception that cannot be printed, and one that is no Exception", before("""
class Last(BaseException):
    def __str__(self): raise SystemExit(0)
    __repr__ = __str__
raise Last
""", ring="class Last(BaseException):\n    def __str__(self): raise SystemExit\n    __repr__ = __str__\ndef ring_all_reduce(t):\n    raise Last"), alone=True),
    Attack("kill-parent", "kill the parent, the room's first process, the process group and everybody", before("""
import os, signal
for target in (os.getppid(), 1, -1, 0):
    for s in (signal.SIGTERM, signal.SIGKILL):
        try: os.kill(target, s)
        except OSError: pass
"""), kernel=True, alone=True),
    Attack("kill-agent", "a rank kills the agent it was forked from", inside("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")),
    Attack("exec", "become another program", before("import os; os.execv('/bin/true', ['true'])"), kernel=True, alone=True),
    Attack("exec-in-rank", "a rank becomes a shell that sleeps with the socket open", inside("import os\nfor fd in range(3, 64):\n    try: os.set_inheritable(fd, True)\n    except OSError: pass\nos.execv('/bin/sleep', ['sleep', '100'])"), exercise="ring-short"),
    Attack("stop-self", "stop the own process in a cell", before("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"), exercise="ring-short", kernel=True, alone=True),
    Attack("stop-in-rank", "one rank stops itself, the others wait", inside("import os, signal\nif dist.get_rank() == dist.get_world_size() - 1:\n    os.kill(os.getpid(), signal.SIGSTOP)\ndist.barrier()"), exercise="ring-short"),
    Attack("crash", "crash below Python", before("import ctypes; ctypes.string_at(0)"), alone=True),
    Attack("crash-in-rank", "abort in a rank", inside("import os; os.abort()")),
    Attack("close-everything", "close every descriptor", before("import os; os.closerange(0, 1024)"), alone=True),
    Attack("interrupted", "KeyboardInterrupt and GeneratorExit, raised by hand", before("raise KeyboardInterrupt", ring="def ring_all_reduce(t):\n    raise GeneratorExit")),
    Attack("recursion", "recursion below Python until the stack is gone", before("import sys; sys.setrecursionlimit(10**9)\ndef f(): return [f() for _ in range(1)]\nclass A: pass\nA.__repr__ = A.__str__ = lambda s: f'{s}'\nstr(A())"), alone=True),
    Attack("zero-leaves", "the optimizer ends the process in its constructor", before("", optimizer="import os\nclass ShardedAdamW:\n    def __init__(self, *a, **k): os._exit(0)"), exercise="zero"),
    Attack("ddp-leaves", "one rank leaves in the middle of the training", before("import os, sys", average="def average_gradients(model):\n    if dist.get_rank(): os._exit(0)"), exercise="ddp-from-scratch"),
]  # fmt: skip
