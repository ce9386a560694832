"""The Linux calls Python 3.11 does not offer, by ctypes. Each raises OSError with the name of the call."""

from __future__ import annotations

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_NEWCGROUP = 0x02000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = (
    1,
    4,
    24,
    38,
    36,
)
HUGE = 2 * 2**20  # bytes
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    result = _libc.unshare(flags)
    if result != 0 and ctypes.get_errno() == errno.ENOSPC:
        raise OSError(
            errno.ENOSPC, "no more namespaces are allowed here, see sysctl user.max_user_namespaces"
        )
    _check(result, "unshare")


def setns(fd: int, kind: int) -> None:
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _check(
        _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}"
    )


def pivot_root(new: str, old: str) -> None:
    _check(_libc.pivot_root(new.encode(), old.encode()), "pivot_root")


def detach(target: str) -> None:
    """Unmount `target` and all that is mounted below it; who still uses it keeps it."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def prctl(option: int, argument: int = 0) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0), f"prctl {option}")


def sethostname(name: str) -> None:
    _check(_libc.sethostname(name.encode(), len(name)), "sethostname")


def give_freed_memory_back() -> None:
    """From now on malloc takes every block above 256 KiB from the kernel and gives it back when it is freed.

    By itself glibc raises that bound with each large block, up to 32 MiB, and a process that has once worked with large
    tensors stays large. Another C library is left as it is.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(-3, 256 * 1024)  # M_MMAP_THRESHOLD


def lay_in_huge_pages() -> None:
    """Have the kernel put what this process has on its heap into pages of 2 MiB, as far as it can.

    A fork copies an entry for every page its parent has: with torch loaded 57,000 small ones or a few hundred, which makes
    it three times as fast. A page that somebody writes to is still copied by the 4 KiB, and what is allocated later comes
    in small pages as before, so no account of memory changes. Linux before 6.1 cannot (madvise(2), MADV_COLLAPSE): there,
    and where memory is short, forks stay slow.
    """
    _libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with open("/proc/self/maps") as file:
        mappings = [line.split() for line in file]
    for place, rights, _, _, _, *name in mappings:
        if rights == "rw-p" and name in ([], ["[heap]"]):
            start, end = (int(bound, 16) for bound in place.split("-"))
            start, end = -(-start // HUGE) * HUGE, end // HUGE * HUGE
            if start < end:
                _libc.madvise(start, end - start, 25)  # MADV_COLLAPSE


def drop_all_capabilities() -> None:
    """Give up every capability for good: bounding set, ambient set, and the three sets of this thread."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break
    _libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    data = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, data), "capset")


def map_ids(inside: int, outside_uid: int, outside_gid: int) -> None:
    """In a fresh user namespace, make `outside_uid` appear as `inside`; no other id exists there."""
    for name, text in (
        ("setgroups", "deny"), ("uid_map", f"{inside} {outside_uid} 1"), ("gid_map", f"{inside} {outside_gid} 1")
    ):  # fmt: skip
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
