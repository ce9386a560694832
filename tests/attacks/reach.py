"""Reach out: the network, other processes, the kernel, the next submission."""

from tests.attacks.attack import Attack, before, cells, inside

ATTACKS = [
    Attack("internet", "call out by every family and protocol", before("""
import socket
for where in (("192.0.2.1", 80), ("8.8.8.8", 53), ("169.254.169.254", 80), ("10.0.0.1", 22), ("172.17.0.1", 2375)):
    attempt(lambda: socket.create_connection(where, timeout=0.2))
    attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", where))
attempt(lambda: socket.create_connection(("2001:db8::1", 80), timeout=0.2))
attempt(lambda: socket.gethostbyname("example.org"))
"""), alone=True),
    Attack("grader-ports", "the grader's loopback and its abstract sockets", before("""
import socket, os
attempt(lambda: socket.create_connection(("127.0.0.1", int("@PORT@")), timeout=0.3))
attempt(lambda: socket.create_connection(("10.77.0.254", int("@PORT@")), timeout=0.3))
s = socket.socket(socket.AF_UNIX) if True else None
attempt(lambda: s.connect("\\0@ABSTRACT@"))
for line in open("/proc/net/unix").read().splitlines()[1:]:
    if "@MARK@" in line or "dbus" in line or "X11" in line:
        got(line)
""")),
    Attack("odd-sockets", "raw, packet, vsock, netlink, bluetooth and key sockets", before("""
import socket
for family in (17, 40, 38, 15, 31, 44, 21, 29, 5, 4, 9, 36):
    attempt(lambda: socket.socket(family, socket.SOCK_DGRAM))
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58))
"""), alone=True),
    Attack("interface", "addresses, routes and limits of the network", before("""
import subprocess, ctypes
for line in ("ip link set hsn0 down", "ip addr add 10.77.0.99/24 dev hsn0", "ip link add type dummy", "ip route add default via 10.77.0.2", "ip netns add x", "tc qdisc add dev hsn0 root tbf rate 1kbit burst 1k latency 1s"):
    attempt(lambda: subprocess.run(line.split(), check=True, capture_output=True))
for path in ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/somaxconn", "/proc/sys/kernel/hostname", "/sys/class/net/hsn0/mtu"):
    attempt(lambda: open(path, "w").write("1"))
""")),
    Attack("processes", "see, signal and read processes of others", before("""
import os, signal
for pid in (int("@VICTIM@"), int("@GRADER@")):
    for s in (0, signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
        attempt(lambda: os.kill(pid, s))
    for name in ("environ", "mem", "maps", "cwd/x", "root/etc/passwd", "stat"):
        attempt(lambda: open(f"/proc/{pid}/{name}", "rb").read(10))
    attempt(lambda: os.pidfd_open(pid))
    try:
        os.sched_setaffinity(pid, {0})
        if os.sched_getaffinity(pid) == {0}: got(("processors", pid))
    except OSError: pass
    try:
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
        if os.sched_getscheduler(pid) == os.SCHED_BATCH: got(("scheduler", pid))
    except OSError: pass
    attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    attempt(lambda: __import__("resource").prlimit(pid, __import__("resource").RLIMIT_NOFILE, (3, 3)))
"""), alone=True),
    Attack("tracing", "ptrace and the memory of other processes, here and outside", before("""
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0: time.sleep(50)
buffer = ctypes.create_string_buffer(64)
class Vec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
here, there = Vec(ctypes.addressof(buffer), 64), Vec(id(None), 64)
for pid in (child, 1, os.getppid(), int("@VICTIM@"), int("@GRADER@")):
    if libc.ptrace(16, pid, 0, 0) == 0: got(("attach", pid))
    if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0: got(("read", pid))
    if libc.process_vm_writev(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0: got(("write", pid))
if libc.ptrace(0, 0, 0, 0) == 0: got("traceme")
"""), alone=True),
    Attack("shared-memory", "System V and POSIX shared memory, semaphores and queues left behind", before("""
import ctypes
from multiprocessing import shared_memory, resource_tracker
libc = ctypes.CDLL(None)
for kind, make in (("shm", lambda: libc.shmget(0x1234, 1 << 20, 0o1666)), ("sem", lambda: libc.semget(0x1234, 1, 0o1666)), ("msg", lambda: libc.msgget(0x1234, 0o1666))):
    if make() >= 0: print(kind, "made")
try:
    resource_tracker.register = lambda *a: None
    shared_memory.SharedMemory("@MARK@", create=True, size=1 << 20).buf[0] = 1
    open("/tmp/@MARK@", "w").write("x"); open("/dev/shm/@MARK@b", "w").write("x")
except OSError: pass
"""), kernel=True, alone=True, visit=True),
    Attack("namespaces", "unshare, setns, mount, chroot and pivot_root", before("""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x10020000, 0x80):
    if os.fork() == 0:
        os._exit(libc.unshare(flag) == 0)
    if os.wait()[1]: got(("unshare", hex(flag)))
for kind in ("user", "net", "mnt", "pid", "ipc"):
    attempt(lambda: None if libc.setns(os.open(f"/proc/1/ns/{kind}", 0), 0) == 0 else 1 / 0)
for call in (lambda: libc.mount(b"none", b"/scratch", b"tmpfs", 0, None), lambda: libc.mount(b"none", b"/proc", b"proc", 32, None), lambda: libc.umount2(b"/scratch", 2), lambda: libc.chroot(b"/scratch"), lambda: libc.syscall(155, b".", b".")):
    if call() == 0: got("a mount changed")
for flags in (0x10000000 | 17, 0x20000 | 17, 0x40000000 | 17):
    pid = libc.syscall(56, flags, 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    if pid > 0: got(("clone", hex(flags)))
"""), kernel=True, alone=True),
    Attack("kernel-doors", "keyrings, bpf, performance counters, io_uring, userfaultfd, modules, clocks, reboot", before("""
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(256)
calls = {"add_key": (248, b"user", b"@MARK@", b"x", 1, -4), "keyctl": (250, 0, -4, 1), "bpf": (321, 0, buffer, 128), "perf": (298, buffer, 0, -1, -1, 0),
         "io_uring": (425, 8, buffer), "userfaultfd": (323, 1), "memfd": (319, b"x", 0), "init_module": (175, buffer, 1, b""), "finit": (313, 0, b"", 0), "settime": (227, 0, buffer),
         "adjtimex": (159, buffer), "reboot": (169, 0xfee1dead, 672274793, 0, 0), "swapon": (167, b"/scratch/x", 0), "kexec": (246, 0, 0, 0, 0), "syslog": (103, 3, buffer, 256),
         "open_by_handle": (304, 0, buffer, 0), "quotactl": (179, 0, 0, 0, 0), "acct": (163, 0), "personality": (135, 0x0040000), "fanotify": (300, 0, 0), "sethostname": (170, b"x", 1)}
if platform.machine() == "x86_64":
    for name, call in calls.items():
        if libc.syscall(*call) >= 0: got(name)
    if libc.syscall(0x40000000 + 101, 0, 0, 0, 0) >= 0: got("x32")
"""), alone=True),
    Attack("thirty-two-bits", "system calls by the 32-bit door, which a filter of 64-bit numbers does not see", before("""
import ctypes, mmap, platform, os
if platform.machine() == "x86_64":
    m = mmap.mmap(-1, 4096, prot=7)
    m.write(bytes([0x53, 0xb8, 26, 0, 0, 0, 0x31, 0xdb, 0x31, 0xc9, 0x31, 0xd2, 0x31, 0xf6, 0xcd, 0x80, 0x5b, 0x48, 0x98, 0xc3]))  # int 0x80: ptrace(TRACEME)
    f = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
    if os.fork() == 0:
        os._exit(77 if f() == 0 else 0)
    if os.waitstatus_to_exitcode(os.wait()[1]) == 77: got("ptrace by int 0x80")
"""), alone=True),
    Attack("system-files", "write what all see: Python, torch, the grader's packages, devices", before("""
import os, torch as t, autograder, aboard, sys
for path in (t.__file__, autograder.__file__, aboard.__file__, sys.executable, "/etc/passwd", "/usr/bin/env", "/etc/hosts", "/bin/sh", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/dev/kmsg", "/sys/kernel/uevent_helper"):
    attempt(lambda: open(path, "r+b").close())
    attempt(lambda: open(path, "ab").close()) if not path.startswith("/dev/null") else None
    try:
        was = os.stat(path).st_mode
        os.chmod(path, was ^ 0o22)
        if not path.startswith("/proc") and os.stat(path).st_mode != was: got(("mode", path))
    except OSError: pass
    attempt(lambda: open(os.path.join(os.path.dirname(path), "@MARK@"), "w")) if not path.startswith(("/scratch", "/dev")) else None
    attempt(lambda: os.unlink(path))
attempt(lambda: os.mknod("/scratch/disk", 0o60666, os.makedev(254, 0)))
attempt(lambda: os.setuid(0)); attempt(lambda: os.setgroups([0]))
if os.getuid() == 0: got("root")
"""), alone=True),
    Attack("attributes", "modes, times, owners and attributes of files of the grader's own user", before("""
import os
def seen(path):
    try: found = os.stat(path)
    except OSError: return None
    return (found.st_mode, found.st_mtime_ns, found.st_gid)
group = os.getgroups()[-1] if os.getgroups() else os.getgid()
for path in ("@HOME@", "@OUT@", "@SUBMISSIONS@", "@COURSE@", "@TMP@"):
    was, targets = seen(path), [path]
    try: targets.append(os.open(path, os.O_RDONLY))
    except OSError: pass
    for target in targets:
        for change in (lambda: os.chmod(target, 0o500), lambda: os.utime(target, (1, 1)), lambda: os.chown(target, -1, group)):
            try: change()
            except OSError: pass
    attempt(lambda: os.setxattr(path, "user.@MARK@", b"1"))
    if was != seen(path): got((path, was, seen(path)))
"""), alone=True),
    Attack("set-id", "programs that change identity", before("""
import subprocess
for line in (["su", "-c", "id"], ["sudo", "-n", "id"], ["mount"], ["newuidmap", "1", "0", "0", "1"], ["bwrap", "--bind", "/", "/", "true"], ["unshare", "-r", "true"], ["ping", "-c1", "-W1", "10.77.0.2"], ["passwd", "-d", "root"]):
    def run(*a):
        done = subprocess.run(line, capture_output=True, timeout=3, input=b"")
        if done.returncode or line[0] in ("mount", "ping"): raise OSError
        return line
    attempt(run)
"""), alone=True),
    Attack("own-code-for-others", "leave Python start-up files, bytecode and libraries for whoever starts next", before("""
import os, site, sys
for folder in [*sys.path, *site.getsitepackages(), os.path.expanduser("~/.local/lib"), os.path.expanduser("~/.ipython/profile_default/startup"), "/scratch"]:
    for name in ("sitecustomize.py", "usercustomize.py", "@MARK@.pth", "torch.py", "00-x.py", "autograder.py"):
        try:
            os.makedirs(folder, exist_ok=True); open(os.path.join(folder, name), "w").write("print('ESC' 'APED start-up file ran')")
        except (OSError, TypeError): pass
"""), visit=True),
    Attack("ports-of-the-next", "use up the ports of the rank's address, for those who are graded next", before("""
import socket
server = socket.create_server(("10.77.0.1", 0), backlog=64)
for _ in range(3000):
    c = socket.create_connection(server.getsockname(), timeout=0.5)
    a, _ = server.accept(); c.close(); a.close()
"""), visit=True),
    Attack("flood-the-switch", "broadcasts and datagrams to all ranks as fast as they go", before("""
import socket, os, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
end = time.time() + 1.5
while time.time() < end:
    for where in ("10.77.0.255", "10.77.0.2", "10.77.0.8", "255.255.255.255"):
        try: s.sendto(bytes(1400), (where, 9999))
        except OSError: pass
""")),
    Attack("half-open", "connections left half open to all ranks, with full buffers", inside("""import socket, os
port = 7000 + tensor.numel() % 900
server = socket.create_server((f"10.77.0.{dist.get_rank() + 1}", port))
dist.barrier()
if os.fork() == 0:
    kept = []
    for r in range(dist.get_world_size()):
        for _ in range(20):
            try:
                c = socket.create_connection((f"10.77.0.{r + 1}", port), timeout=1); c.setblocking(False); kept.append(c)
                while True: c.send(bytes(1 << 16))
            except OSError: pass
    import time; time.sleep(100)"""), visit=True),
    Attack("ranks-of-others", "one rank signals, reads and joins the rooms of the others", inside("""import os, socket
for pid in os.listdir("/proc"):
    if pid.isdigit() and b"sandbox" in open(f"/proc/{pid}/cmdline", "rb").read() and socket.gethostname() != f"rank{dist.get_rank()}":
        got("another room's process")
if dist.get_rank(): attempt(lambda: open("/dev/shm/rank0").read())
open(f"/dev/shm/rank{dist.get_rank()}", "w").write("x")
dist.barrier()
names = [n for n in os.listdir("/dev/shm") if n.startswith("rank") and n != f"rank{dist.get_rank()}"]
if names: got(names)""")),
    Attack("zero-reaches", "the optimizer looks for the network and the judge on each step", cells(optimizer="""
import socket
class ShardedAdamW:
    def __init__(self, params, **k): self.params = params
    def step(self, grad):
        for where in (("127.0.0.1", int("@PORT@")), ("192.0.2.1", 80)):
            try: socket.create_connection(where, timeout=0.05); raise RuntimeError("ESC" + "APED")
            except OSError: pass
"""), exercise="zero"),
]  # fmt: skip
