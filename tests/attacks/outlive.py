"""Outlive or outgrow: processes that stay, floods of everything, loops without end."""

from __future__ import annotations

import re

from tests.attacks.attack import Attack, before, inside, once
from tests.attacks.ground import Found

TWINS = """
import os, time, mmap
def pair(size):
    if os.fork() == 0:
        x = bytearray(b"x") * size
        os.fork()
        time.sleep(100); os._exit(0)
"""


def took_at_most(mib: int) -> object:
    """The attack prints how many MiB it holds, as "held N"; more than `mib` is too much."""

    def look(found: Found) -> None:
        held = max([0, *(int(n) for n in re.findall(r"held (\d+)", found.printed + str(found.result)))])
        assert held <= mib, f"it held {held} MiB, where {mib} are allowed, and was let go on"

    return look


ATTACKS = [
    Attack("daemons", "double forks into sessions of their own, deaf to signals", before("""
import os, signal, time
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for s in range(1, 65):
                try: signal.signal(s, signal.SIG_IGN)
                except (OSError, ValueError): pass
            while True: time.sleep(0.01)
        os._exit(0)
"""), kernel=True, alone=True, visit=True),
    Attack("daemons-in-rank", "the same from a rank, holding the sockets", inside("""import os, time
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        while True: time.sleep(0.01)"""), visit=True),
    Attack("fork-bomb", "processes that fork for ever", before("""
import os
if os.fork() == 0:
    while True:
        try: os.fork()
        except OSError: pass
import time; time.sleep(0.5)
"""), exercise="ring-short", kernel=True, alone=True, slow_s=25),
    Attack("thread-bomb", "threads without end", before("""
import threading, time
try:
    while True: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
except RuntimeError: pass
"""), exercise="ring-short", alone=True),
    Attack("memory", "all the memory there is, in one process", before("x = []\nwhile True: x.append(bytearray(b'x') * 10**8)"), exercise="ring-small", alone=True),
    Attack("memory-in-many", "all the memory there is, in many processes", before("""
import os, time
for _ in range(12):
    if os.fork() == 0:
        x = bytearray(b"x") * (60 << 20); time.sleep(100)
time.sleep(6); print("held", 12 * 60)  # on a busy machine the account takes seconds
"""), exercise="ring-small", alone=True, also=took_at_most(0)),
    Attack("memory-in-twins", "each piece of memory belongs to two processes, so that to none it is private", once(TWINS + """
for i in range(11):
    pair(60 << 20); time.sleep(0.08)
time.sleep(6); print("held", 11 * 60)
"""), exercise="ring-small", also=took_at_most(0)),
    Attack("memory-in-programs", "the same in other programs, which share nothing with the warm one", once("""
import subprocess, sys, time
code = "import os, time; x = bytearray(b'x') * (60 << 20); os.fork(); time.sleep(100)"
for _ in range(11): subprocess.Popen([sys.executable, "-S", "-c", code]); time.sleep(0.04)
time.sleep(6); print("held", 11 * 60)
"""), exercise="ring-small", also=took_at_most(0)),
    Attack("memory-in-sockets", "hundreds of megabytes in the buffers of sockets that nobody reads", once("""
import socket, time
total, kept = 0, []
while total < 800 << 20 and len(kept) < 220:
    pair = socket.socketpair(); kept.append(pair)
    for s in pair:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22); s.setblocking(False)
        try:
            while total < 800 << 20: total += s.send(bytes(1 << 16))
        except BlockingIOError: pass
time.sleep(0.3); print("held", total >> 20)
"""), exercise="ring-small", also=took_at_most(512)),
    Attack("memory-in-sockets-of-many", "the same, spread over many processes", once("""
import os, socket, struct, time
reading, writing = os.pipe()
for _ in range(10):
    if os.fork() == 0:
        total, kept = 0, []
        try:
            while len(kept) < 480:
                pair = socket.socketpair(); kept.append(pair)
                for s in pair:
                    s.setblocking(False)
                    try:
                        while True: total += s.send(bytes(1 << 15))
                    except BlockingIOError: pass
        except OSError: pass
        os.write(writing, struct.pack("q", total)); time.sleep(100)
total = sum(struct.unpack("q", os.read(reading, 8))[0] for _ in range(10))
time.sleep(6); print("held", total >> 20)
"""), exercise="ring-small", also=took_at_most(512)),
    Attack("shared-maps", "memory in shared maps, in one process after the other", once("""
import mmap, os, time
for _ in range(11):
    m = mmap.mmap(-1, 60 << 20); m.write(b"x" * (60 << 20))
    if os.fork() == 0: time.sleep(100)
    m.close()
time.sleep(1); print("held", 11 * 60)
"""), exercise="ring-small", also=took_at_most(0), visit=True),
    Attack("disk", "fill every folder that can be written", before("""
import os
for folder in ("/scratch", "/tmp", "/dev/shm", "/var/tmp", "/run", os.path.expanduser("~")):
    for i in range(100):
        try: open(f"{folder}/@MARK@{i}", "wb").write(b"x" * (50 << 20))
        except OSError: break
"""), exercise="ring-small", alone=True, visit=True),
    Attack("files", "a hundred thousand files and folders", before("""
import os
try:
    for i in range(100_000): os.makedirs(f"{os.path.expanduser('~')}/@MARK@{i}/x")
except OSError: pass
"""), visit=True),
    Attack("deep-folder", "folders a thousand deep", before("import os\nfor i in range(1500):\n    os.mkdir('d' * 200); os.chdir('d' * 200)"), alone=True),
    Attack("huge-file", "one file of a terabyte with nothing in it", before("import os\nfd = os.open('big', os.O_CREAT | os.O_RDWR)\ntry: os.ftruncate(fd, 1 << 40)\nexcept OSError: pass"), alone=True),
    Attack("output", "a gigabyte of output, by Python, by descriptors and by programs", before("""
import os, sys, subprocess
for _ in range(40): print("x" * 10**6)
for _ in range(40): os.write(1, b"y" * 10**6)
subprocess.run("head -c 100000000 /dev/zero", shell=True)
raise ValueError("z" * 10**7)
"""), kernel=True, alone=True),
    Attack("displays", "ten thousand displays, pictures and updates", before("""
from IPython.display import display, clear_output
for i in range(3000):
    display({"text/plain": "x" * 1000, "image/png": "A" * 1000, "text/html": "<b>" * 300}, raw=True)
display({f"x/{i}": "y" for i in range(20000)}, raw=True)
"""), slow_s=25),
    Attack("endless-cell", "a cell that never ends and does not listen", before("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"), exercise="ring-short", kernel=True, alone=True),
    Attack("endless-cell-that-catches", "a cell that takes every interrupt and goes on", before("while True:\n    try:\n        while True: pass\n    except BaseException: pass"), exercise="ring-short", alone=True),
    Attack("endless-rank", "a rank that never returns", inside("while True: pass"), exercise="ring-short"),
    Attack("endless-last-words", "a value that never ends while it is packed", before("""
class Slow(dict): pass
""", ring="import aboard.wire as w\ndef forever(*a, **k):\n    while True: pass\ndef ring_all_reduce(t):\n    w._pack = forever\n    return t"), exercise="ring-short"),
    Attack("never-reads", "a rank that never reads its inputs, so that sending them blocks", before("""
import autograder.sandbox.agent as agent, socket, struct, time
agent.live = live = getattr(agent, "live", agent.live_as_rank)
def deaf(sock, lookup):
    head = b""
    while len(head) < 12: head = sock.recv(12, socket.MSG_PEEK)
    if struct.unpack(">IQ", head)[1] > 300_000: time.sleep(1000)
    live(sock, lookup)
agent.live_as_rank = deaf
""", chunks="SOLUTION", ring="SOLUTION"), exercise="ring-eight", may_earn=frozenset({"chunks", "result", "memory"}), slow_s=2.5),
    Attack("descriptors", "every descriptor there is", before("import os\nkept = []\ntry:\n    while True: kept.append(os.open('/dev/null', 0))\nexcept OSError: pass"), alone=True),
    Attack("huge-result", "results of a gigabyte from every rank", inside("return torch.zeros(250_000_000, dtype=torch.uint8)"), slow_s=25),
    Attack("large-results", "results of 100 MB from every rank, just under the limit", inside("return torch.zeros(100_000_000, dtype=torch.uint8)"), slow_s=25),
    Attack("locks", "pinned pages, timers, queues and semaphores", before("""
import ctypes, mmap
libc = ctypes.CDLL(None)
m = mmap.mmap(-1, 64 << 20)
libc.mlockall(3)
for i in range(1000):
    libc.mq_open(b"/@MARK@%d" % i, 0o102, 0o600, None); libc.sem_open(b"/@MARK@%d" % i, 0o100, 0o600, 1)
"""), alone=True),
    Attack("priority", "real-time priority, all processors, out-of-memory immunity", before("""
import os
attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)))
attempt(lambda: os.nice(-20))
attempt(lambda: open("/proc/self/oom_score_adj", "w").write("-1000"))
attempt(lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_NPROC, (10**6, 10**6)))
"""), alone=True),
    Attack("page-tables", "a terabyte of nothing, looked at here and there: gigabytes of page tables", once("""
import mmap, ctypes
libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
base = libc.mmap(None, 280 << 30, 1, 0x4022, -1, 0)
if base not in (None, 2**64 - 1):
    libc.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    for offset in range(0, 280 << 30, 2 << 20): libc.memchr(base + offset, 1, 1)
import time; time.sleep(0.5)
line = next(l for l in open("/proc/self/status") if l.startswith("VmPTE"))
print("held", int(line.split()[1]) >> 10)
"""), exercise="ring-small", also=took_at_most(512)),
    Attack("slow-rooms", "every room but the first takes as long as it may to run the notebook's cells", before("""
import socket, time
if socket.gethostname() != "rank0":
    time.sleep(3.5)
""", chunks="SOLUTION", ring="SOLUTION"), exercise="ring-eight", may_earn=frozenset({"chunks", "result", "traffic", "memory"}), slow_s=2.5),
]  # fmt: skip
