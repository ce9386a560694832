"""What the kernel tells of a namespace's sockets; and that a room has only such sockets, pipes and memory as are counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.sandbox import seccomp

ROOT = Path(__file__).parents[2]
IN_A_NETWORK_OF_ITS_OWN = """
import json, os, socket, subprocess, time
from autograder.sandbox import kernel
from autograder.sandbox.network import TABLE
if os.geteuid():
    kernel.unshare(kernel.CLONE_NEWUSER)
kernel.unshare(kernel.CLONE_NEWNET)
if os.path.exists(TABLE[0]):  # as a room's network is made: with a table of its own
    with open(TABLE[0], "w") as file:
        file.write(TABLE[1])
    kernel.unshare(kernel.CLONE_NEWNET)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
from autograder.sandbox.sockets import Sockets
sockets, found = Sockets(), {}
def look(what):
    time.sleep(0.3)
    sockets.waiting()
    found[what] = sockets.waiting()
def filled(s):
    s.settimeout(0.05)
    try:
        while True:
            s.send(bytes(1 << 16))
    except TimeoutError:
        return s
look("nothing")
one, other = socket.socketpair()
one.send(bytes(1000))
found["at once"] = sockets.waiting()
other.recv(1000)
look("after it was received")
one.send(b"x")
sockets.waiting()
look("left there")
other.recv(1)
door = socket.socket(socket.AF_UNIX)
door.bind(f"{os.environ['HOME']}/door")
door.listen(10)
for _ in range(3):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(door.getsockname())
        s.send(bytes(5000))
look("not accepted")
door.close()
door = socket.create_server(("127.0.0.1", 0))
filled(socket.create_connection(door.getsockname())).close()
look("over TCP, the other end closed")
door.close()
taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taker.bind(("127.0.0.1", 0))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for _ in range(3):
        s.sendto(bytes(30_000), taker.getsockname())
look("datagrams")
print(json.dumps(found))
"""
BEHIND_THE_FILTER = """
import fcntl, json, mmap, os, socket
from autograder.sandbox import kernel, seccomp
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install()
found = {}
def attempt(name, call, *arguments):
    try:
        call(*arguments)
        found[name] = ""
    except OSError as error:
        found[name] = type(error).__name__
stream, packets, seq = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
attempt("unix", socket.socket, socket.AF_UNIX, stream | socket.SOCK_NONBLOCK)
attempt("a pair", socket.socketpair)
attempt("TCP", socket.socket, socket.AF_INET, stream, socket.IPPROTO_TCP)
attempt("TCP by default", socket.socket, socket.AF_INET6, stream)
attempt("UDP", socket.socket, socket.AF_INET, packets)
attempt("routes", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0)
attempt("unix datagrams", socket.socket, socket.AF_UNIX, packets)
attempt("unix packets", socket.socket, socket.AF_UNIX, seq | socket.SOCK_NONBLOCK)
attempt("a pair of datagrams", socket.socketpair, socket.AF_UNIX, packets)
attempt("multipath TCP", socket.socket, socket.AF_INET, stream, 262)
attempt("SCTP", socket.socket, socket.AF_INET, stream, 132)
attempt("UDP-Lite", socket.socket, socket.AF_INET6, packets, 136)
attempt("netlink for anybody's use", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 2)
attempt("a larger pipe", fcntl.fcntl, os.pipe()[1], 1031, 1 << 20)
attempt("the size of a pipe", fcntl.fcntl, os.pipe()[1], 1032)
own = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
attempt("memory", own.madvise, mmap.MADV_DONTNEED)
attempt("memory that is sent to swap", own.madvise, 21)
attempt("huge pages of the administrator's", mmap.mmap, -1, 1 << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
print(json.dumps(found))
"""


def run(program: str, folder: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_waits_in_sockets_is_told_by_the_kernel(tmp_path):
    found = run(IN_A_NETWORK_OF_ITS_OWN, tmp_path)
    assert [found[what] for what in ("nothing", "at once", "after it was received")] == [0, 1000, 0]
    # It may have brought descriptors of pipes.
    assert found["left there"] > 30_000_000
    assert found["not accepted"] >= 3 * 5000
    assert found["over TCP, the other end closed"] > 65_536
    assert found["datagrams"] >= 90_000


@pytest.mark.skipif(not seccomp.offered(), reason="this kernel or processor offers no filter")
def test_a_room_has_only_sockets_pipes_and_memory_of_which_is_known_what_they_hold(tmp_path):
    found = run(BEHIND_THE_FILTER, tmp_path)
    granted = {"unix", "a pair", "TCP", "TCP by default", "UDP", "routes", "the size of a pipe", "memory"}
    assert {name for name, error in found.items() if not error} == granted
    assert {error for error in found.values() if error} == {"PermissionError"}
