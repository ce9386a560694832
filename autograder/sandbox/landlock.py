"""Landlock: a process gives up the file system, signals and sockets of everybody else, for itself and its descendants.

It needs no privilege and no namespace, so it is what is left on a machine that allows no user namespaces. Interface:
the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct

from autograder.sandbox.kernel import _libc as libc

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
NEEDED_ABI = 6  # signals and abstract sockets stay inside: Linux 6.12

READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
ALL_FILES = (
    1 << 16
) - 1  # every file right of ABI 5: the above, write, remove, make, refer, truncate, ioctl on devices
FILE_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # rights that a rule on a single file may hold
ALL_TCP = 1 << 0 | 1 << 1  # bind, connect
SIGNALS = 1 << 1
ALL_SCOPES = 1 << 0 | SIGNALS  # and abstract unix sockets


def abi() -> int:
    """The kernel's Landlock version; 0 when it has none or it is switched off."""
    return max(0, libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def restrict(readable: list[str], writable: list[str]) -> None:
    """From now on: read and run what is below `readable`, do anything below `writable`, nothing else, no TCP.

    Paths that do not exist are passed over. Needs `no_new_privs`. OSError when the kernel refuses.
    """
    ruleset = _ruleset(ALL_FILES, ALL_TCP, ALL_SCOPES)
    for paths, rights in ((readable, READ), (writable, ALL_FILES)):
        for path in paths:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            allowed = rights if os.path.isdir(path) else rights & FILE_ONLY
            rule = struct.pack("=Qi", allowed, fd)  # struct landlock_path_beneath_attr, packed
            _call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint32(0))
            os.close(fd)
    _enter(ruleset)


def keep_signals_in() -> None:
    """From now on, signals of this process and its descendants reach these alone; nothing else is given up.

    Needs `no_new_privs`. OSError when the kernel refuses.
    """
    _enter(_ruleset(0, 0, SIGNALS))


def _ruleset(files: int, tcp: int, scopes: int) -> int:
    attributes = struct.pack("=QQQ", files, tcp, scopes)
    return _call(
        CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )


def _enter(ruleset: int) -> None:
    _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    result = libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return int(result)
