"""Reach out: the network, other processes, the kernel."""

from tests.attacks.attack import attacks

CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    if libc.syscall(number, *arguments) >= 0: print("REACHED", name)
"""


def syscall(name: str, *arguments: object) -> str:
    import platform

    from autograder.sandbox.seccomp import ARCHITECTURES, REFUSED

    column = ARCHITECTURES[platform.machine()][0]
    return f"{CALL}\ncall({name!r}, {REFUSED[name][column]}, {', '.join(map(str, arguments))})"


# Each prints REACHED when it got somewhere; the test looks for the word.
ATTACKS = attacks(
    calls_the_internet="""
import socket
for host, port in (("192.0.2.1", 80), ("1.1.1.1", 53), ("169.254.169.254", 80)):
    try: socket.create_connection((host, port), timeout=0.5); print("REACHED", host)
    except OSError: pass
""",
    sends_datagrams="""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: s.sendto(b"x", ("1.1.1.1", 53)); print("REACHED")
except OSError: pass
""",
    calls_the_graders_machine="""
import socket
for host in ("127.0.0.1", "10.77.0.254", "localhost", "::1"):
    for port in (CANARY_PORT, 22, 80, 8888):
        try: socket.create_connection((host, port), timeout=0.2); print("REACHED", host, port)
        except OSError: pass
""",
    looks_up_names="import socket\ntry: socket.gethostbyname('example.org'); print('REACHED')\nexcept OSError: pass",
    opens_raw_and_other_sockets="""
import socket
for family, kind in ((socket.AF_INET, socket.SOCK_RAW), (17, socket.SOCK_RAW), (40, socket.SOCK_STREAM), (38, socket.SOCK_SEQPACKET), (31, 3), (29, 3)):
    try: socket.socket(family, kind); print("REACHED", family, kind)
    except OSError: pass
""",
    finds_abstract_sockets="""
for line in open("/proc/net/unix"):
    if "@" in line: print("REACHED" if "CANARY" in line else "", line)
""",
    changes_its_network="""
import subprocess
for line in ("ip addr add 10.77.0.9/24 dev hsn0", "ip link set hsn0 down", "ip link add x type dummy", "ip route add default via 10.77.0.1"):
    try:
        if subprocess.run(line.split(), capture_output=True).returncode == 0: print("REACHED", line)
    except OSError: pass
""",
    takes_the_address_of_another_rank="""
import socket
for r in range(1, 9):
    try:
        socket.create_server((f"10.77.0.{r + 1}", 7000)); print("REACHED", r)
    except OSError: pass
""",
    signals_every_process="""
import os
for pid in range(1, 70000):
    try: os.kill(pid, 0)
    except OSError: continue
    if pid > 40: print("REACHED", pid)
""",
    traces_its_parent=syscall("ptrace", 16, 1, 0, 0),
    reads_memory_of_others=syscall("process_vm_readv", 1, 0, 0, 0, 0, 0),
    makes_a_user_namespace=syscall("unshare", 0x10000000),
    mounts_a_file_system=syscall("mount", 0, "b'/scratch'", "b'tmpfs'", 0, 0),
    opens_a_mount=syscall("open_tree", -100, "b'/'", 0),
    changes_its_root=syscall("chroot", "b'/scratch'"),
    joins_a_namespace=CALL + "call('setns', 308, os.open('/proc/1/ns/mnt', 0), 0)",
    uses_a_keyring=syscall("keyctl", 0, -3, 1),
    loads_a_bpf_program=syscall("bpf", 0, 0, 0),
    counts_performance=syscall("perf_event_open", "b'\\0' * 120", 0, -1, -1, 0),
    opens_a_ring=syscall("io_uring_setup", 8, "b'\\0' * 120"),
    hides_memory_in_a_file=syscall("memfd_create", "b'x'", 0),
    leaves_system_v_memory=syscall("shmget", 0, 1 << 20, 0o1600),
    sets_the_clock=syscall("clock_settime", 0, "b'\\0' * 16"),
    names_the_machine=syscall("sethostname", "b'x'", 1),
    becomes_root="""
import os
for function in (lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.seteuid(0), lambda: os.setgroups([0])):
    try: function(); print("REACHED")
    except OSError: pass
""",
    runs_programs_of_root="""
import subprocess
for line in ("su -c id", "sudo -n id", "mount", "newuidmap 1 0 0 1", "pkexec id"):
    try:
        done = subprocess.run(line.split(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if "uid=0" in done.stdout: print("REACHED", line)
    except OSError: pass
""",
    writes_to_the_kernel="""
import os
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/self/oom_score_adj_", "/sys/kernel/uevent_helper", "/proc/1/oom_score_adj"):
    try: open(path, "w").write("x"); print("REACHED", path)
    except OSError: pass
""",
    opens_devices="""
import os, stat
for where, folders, names in os.walk("/dev"):
    for name in names:
        path = os.path.join(where, name)
        if name not in ("null", "zero", "full", "random", "urandom", "tty", "ptmx") and not where.startswith(("/dev/fd", "/dev/pts", "/dev/shm")) and stat.S_ISBLK(os.lstat(path).st_mode | 0): print("REACHED", path)
try: os.mknod("/scratch/disk", 0o600 | stat.S_IFBLK, os.makedev(8, 0)); print("REACHED mknod")
except OSError: pass
""",
    writes_to_the_system="""
import os, sys, torch
for folder in ("/usr/local/bin", "/etc", "/", "/lib", os.path.dirname(torch.__file__), sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)):
    try: open(os.path.join(folder, "CANARY"), "w"); print("REACHED", folder)
    except OSError: pass
""",
    leaves_things_in_shared_memory="open('/dev/shm/CANARY', 'w').write('x')\nimport multiprocessing.shared_memory as s\ns.SharedMemory('CANARY2', create=True, size=1 << 20)",
    talks_to_descriptors_it_inherited="""
import os
for fd in range(3, 1024):
    try: path = os.readlink(f"/proc/self/fd/{fd}")
    except OSError: continue
    if path.startswith("/") and not path.startswith(("/dev", "/proc", "/scratch", "/memfd")): print("REACHED", fd, path)
""",
)
