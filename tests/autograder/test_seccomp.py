"""The filter by itself, where no namespace hides the processes of others: what it refuses there, and what it leaves to the caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from autograder.sandbox import seccomp

pytestmark = pytest.mark.skipif(not seccomp.offered(), reason="this kernel or processor offers no filter")
ROOT = Path(__file__).parents[2]
TRY = """
import ctypes, errno, json, os, resource, sys
from autograder.sandbox import kernel, seccomp
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(namespaces=False)
other = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def no_error(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
# What is there already is asked for, so that no harm is done where it is granted.
param, soft, nice = os.sched_param(0), resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0)
on = lambda pid: {
    "limits": lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, soft),
    "processors": lambda: os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))}),
    "scheduler": lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, param),
    "parameters": lambda: os.sched_setparam(pid, param),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, nice),
}
tried = {f"own {name}": call for name, call in on(0).items()} | {f"another's {name}": call for name, call in on(other).items()}
tried |= {
    "priority of all": lambda: os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_USER, 0)),
    "input and output": lambda: no_error(libc.syscall({"x86_64": 251, "aarch64": 30}[os.uname().machine], 1, other, 2 << 13 | 4)),
    "handle": lambda: os.pidfd_open(other),
    # There are none of these numbers; who is let through to the kernel learns it. Real ones would be seen by other tests.
    "segment": lambda: no_error(libc.shmctl(1 << 30, 0, None)),
    "queue": lambda: no_error(libc.msgctl(1 << 30, 0, None)),
}
done = []
for name, call in tried.items():
    try:
        call()
        done.append(name)
    except OSError as error:
        if error.errno != errno.EPERM:
            done.append(name)
print(json.dumps(done))
"""


def test_of_other_processes_nothing_can_be_changed_by_their_number():
    other = subprocess.Popen(["sleep", "60"])
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRY, str(other.pid)], cwd=ROOT,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == [
            "own limits", "own processors", "own scheduler", "own parameters", "own priority",
            "another's processors", "another's scheduler", "another's parameters",
        ]  # fmt: skip
        # Granted, and not done.
        assert os.sched_getscheduler(other.pid) == os.SCHED_OTHER
        assert os.sched_getaffinity(other.pid) == os.sched_getaffinity(0)
    finally:
        other.kill()
        other.wait()


CHANGE = """
import ctypes, fcntl, os, shutil, struct, sys
from autograder.sandbox import kernel, seccomp
path, copied = sys.argv[1:]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(namespaces=False)
handle = os.open(path, os.O_RDONLY)
for target in (path, handle):
    for change in (
        lambda: os.chmod(target, 0), lambda: os.utime(target, (1, 1)), lambda: os.chown(target, 1, 1), lambda: os.utime(target),
        lambda: os.setxattr(target, "user.mark", b"2"), lambda: fcntl.ioctl(handle, 0x40086602, struct.pack("l", 0x40)),
    ):
        try:
            change()
        except OSError:
            pass
libc = ctypes.CDLL(None)
assert libc.inotify_add_watch(libc.inotify_init(), path.encode(), 0x20) == -1  # who opens it
shutil.copy2(path, copied)
"""


def test_where_no_namespace_hides_files_of_the_same_user_their_attributes_stay(tmp_path):
    file, copied = tmp_path / "result.json", tmp_path / "copy"
    file.write_text("{}")
    file.chmod(0o640)
    with suppress(OSError):  # a file system without attributes
        os.setxattr(file, "user.mark", b"1")
    marks = {name: os.getxattr(file, name) for name in os.listxattr(file)}
    before = file.stat()
    subprocess.run([sys.executable, "-c", CHANGE, str(file), str(copied)], cwd=ROOT, check=True)
    after = file.stat()
    assert copied.read_text() == "{}"  # copying, which asks for modes and times, goes on
    kept = ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns")
    assert [getattr(after, one) for one in kept] == [getattr(before, one) for one in kept]
    assert {name: os.getxattr(file, name) for name in os.listxattr(file)} == marks
