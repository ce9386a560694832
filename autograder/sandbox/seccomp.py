"""A filter on system calls for the rooms: what no exercise needs, the kernel refuses.

Namespaces already take away what these calls could reach, and the filter takes away the calls, so that a mistake in a part of
the kernel that no exercise ever uses is out of reach too. Where there are no namespaces, under Landlock, it also keeps from
others what a namespace would have hidden. Refused calls fail with "operation not permitted". A few that libraries make by the
way are granted and change nothing: larger buffers of a socket, and what is said of each below.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from autograder.sandbox.kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from autograder.sandbox.kernel import _libc as libc

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT, _FOURTH_ARGUMENT = 0, 4, 16, 24, 32, 40
_ARGUMENT_BYTES = 8

# name: (x86_64, aarch64), from the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h
REFUSED = {
    # other processes' memory and descriptors
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "userfaultfd": (323, 282),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268), "sethostname": (170, 161),
    "setdomainname": (171, 162), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # keyrings, programs in the kernel, performance counters, asynchronous rings
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # the machine
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "vhangup": (153, 58), "personality": (135, 92),
    # memory that belongs to no process, so that no account of processes would show it
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180),
    # the same of others, by a number or a name
    "shmat": (30, 196), "shmctl": (31, 195), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191), "mq_unlink": (241, 181),
    "pidfd_open": (434, 434), "migrate_pages": (256, 238), "move_pages": (279, 239), "ioprio_set": (251, 30),
}  # fmt: skip
# For rooms without namespaces. What acts on any process of the same user, by its number: neither Landlock nor the dumpable flag
# keeps anybody from these calls. The arguments named here (from 0) must be 0, which means the caller alone. A thread that sets its
# own scheduling or processors gives its number, and libraries give up where that fails: so it is granted, and changes nothing.
OF_OTHERS = {
    "prlimit64": ((302, 261), (0,), errno.EPERM), "setpriority": ((141, 140), (0, 1), errno.EPERM),
    "sched_setattr": ((314, 274), (0,), errno.EPERM), "sched_setaffinity": ((203, 122), (0,), 0),
    "sched_setscheduler": ((144, 119), (0,), 0), "sched_setparam": ((142, 118), (0,), 0),
}  # fmt: skip
# What Landlock lets a process do to any file of its user that it finds: owners and flags, and to watch who uses it, are refused;
# attributes of its own kind seem not to be supported, as on some file systems; mode and times, which copying a file asks for
# by the way, are granted and stay as they are. None: not on this processor.
OWNERS = {
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "file_setattr": (469, 469),
    "inotify_add_watch": (254, 27),
}  # fmt: skip
ATTRIBUTES = {
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10), "getxattrat": (464, 464),
    "listxattr": (194, 11), "llistxattr": (195, 12), "flistxattr": (196, 13), "listxattrat": (465, 465),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
}  # fmt: skip
MODE_AND_TIMES = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
IOCTL = (16, 29)
SET_FLAGS = (0x40086602, 0x40046602, 0x401C5820)  # FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS, FS_IOC_FSSETXATTR
CLONE, CLONE3, SOCKET, MMAP = (56, 220), (435, 435), (41, 198), (9, 222)
SETSOCKOPT, SOL_SOCKET = (54, 208), 1
FCNTL, SET_PIPE_SIZE = (72, 25), 1031
SOCKETPAIR = (53, 199)
BUFFER_SIZES = (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF, and both with FORCE
MAP_SHARED, MAP_ANONYMOUS, MAP_HUGETLB = 0x01, 0x20, 0x40000
MADVISE, MADV_PAGEOUT = (28, 233), 21
# Sockets of these families: unix, IPv4, IPv6, netlink (asked for the list of interfaces); not vsock, packet, bluetooth … And of
# each only the kinds of which the warden can tell what waits in them (`sockets.py`): which argument may have which values.
# Of unix sockets streams, of the internet TCP and UDP, of netlink what routes are asked of.
UNIX_STREAM = (_SECOND_ARGUMENT, (1,))
FAMILIES = {
    1: UNIX_STREAM, 2: (_THIRD_ARGUMENT, (0, 6, 17)), 10: (_THIRD_ARGUMENT, (0, 6, 17)), 16: (_THIRD_ARGUMENT, (0,)),
}  # fmt: skip
NAMESPACES = (
    CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | 0x02000000
)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_…


def offered() -> bool:
    """Whether this kernel and processor can be asked for a filter."""
    return platform.machine() in ARCHITECTURES and libc.prctl(21, 0, 0, 0, 0) >= 0  # PR_GET_SECCOMP


def program(namespaces: bool = True) -> bytes:
    """The filter as BPF instructions. Without namespaces it has to keep from others what they would have hidden."""
    families = FAMILIES if namespaces else {}
    column, architecture = ARCHITECTURES[platform.machine()]

    def refuse(number: int = errno.EPERM) -> bytes:
        return _op(_RETURN, _ERRNO | number)

    code = _op(_LOAD, _ARCH) + _op(_EQUAL, architecture, 1, 0) + refuse()
    code += (
        _op(_LOAD, _NUMBER) + _op(_AT_LEAST, 0x40000000, 0, 1) + refuse()
    )  # the x32 numbers of the same calls
    for numbers in REFUSED.values():
        code += _op(_EQUAL, numbers[column], 0, 1) + refuse()
    if not namespaces:
        for names, answer in ((OWNERS, errno.EPERM), (ATTRIBUTES, errno.ENOTSUP), (MODE_AND_TIMES, 0)):
            for one in names.values():
                if (number := one[column]) is not None:
                    code += _op(_EQUAL, number, 0, 1) + refuse(answer)
        for pair, arguments, answer in OF_OTHERS.values():
            code += _op(_EQUAL, pair[column], 0, 3 * len(arguments) + 1)
            for argument in arguments:
                code += _op(_LOAD, _FIRST_ARGUMENT + argument * _ARGUMENT_BYTES)
                code += _op(_EQUAL, 0, 1, 0) + refuse(answer)
            code += _op(_RETURN, _ALLOW)
        code += _op(_EQUAL, IOCTL[column], 0, 2 + 2 * len(SET_FLAGS)) + _op(_LOAD, _SECOND_ARGUMENT)
        for flags in SET_FLAGS:
            code += _op(_EQUAL, flags, 0, 1) + refuse()
        code += _op(_RETURN, _ALLOW)
    # Its flags lie behind a pointer where no filter can look; without it, the C library takes clone.
    code += _op(_EQUAL, CLONE3[column], 0, 1) + refuse(errno.ENOSYS)
    code += _op(_EQUAL, CLONE[column], 0, 4) + _op(_LOAD, _FIRST_ARGUMENT) + _op(_ANY_BIT, NAMESPACES, 0, 1)
    code += refuse() + _op(_RETURN, _ALLOW)
    # Memory that processes share lies in files of the room, where it is counted; not in maps without a name.
    # Nor is memory counted that comes from huge pages set aside by an administrator, or that is sent to swap.
    code += _op(_EQUAL, MMAP[column], 0, 7) + _op(_LOAD, _FOURTH_ARGUMENT)
    code += _op(_ANY_BIT, MAP_HUGETLB, 0, 1) + refuse()
    code += _op(_ANY_BIT, MAP_ANONYMOUS, 0, 2) + _op(_ANY_BIT, MAP_SHARED, 0, 1) + refuse()
    code += _op(_RETURN, _ALLOW)
    to_swap = _op(_LOAD, _THIRD_ARGUMENT) + _if_equal(MADV_PAGEOUT, refuse()) + _op(_RETURN, _ALLOW)
    code += _if_equal(MADVISE[column], to_swap)
    # What lies in a socket belongs to no process either: each keeps the size it was born with, whatever is asked for.
    code += _op(_EQUAL, SETSOCKOPT[column], 0, 9) + _op(_LOAD, _SECOND_ARGUMENT)
    code += _op(_EQUAL, SOL_SOCKET, 0, 6) + _op(_LOAD, _THIRD_ARGUMENT)
    for left in (3, 2, 1):
        code += _op(_EQUAL, BUFFER_SIZES[3 - left], left, 0)
    code += _op(_EQUAL, BUFFER_SIZES[3], 0, 1) + refuse(0) + _op(_RETURN, _ALLOW)
    # The same of pipes: each holds 64 KiB.
    larger = _op(_LOAD, _SECOND_ARGUMENT) + _if_equal(SET_PIPE_SIZE, refuse()) + _op(_RETURN, _ALLOW)
    code += _if_equal(FCNTL[column], larger)
    # And of sockets only those whose contents the warden is told of (`sockets.py`).
    for call, known in ((SOCKETPAIR, {1: UNIX_STREAM}), (SOCKET, families)):
        choice = b"".join(_if_equal(family, _only(*kinds, refuse())) for family, kinds in known.items())
        choice = _op(_LOAD, _FIRST_ARGUMENT) + choice + refuse(errno.EAFNOSUPPORT)
        code += _if_equal(call[column], choice)
    return code + _op(_RETURN, _ALLOW)


def install(namespaces: bool = True) -> None:
    """Put the filter on this process and all its descendants, for good. Needs `no_new_privs`."""
    code = program(namespaces)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    if libc.prctl(22, 2, ctypes.c_char_p(described), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {errno.errorcode.get(number, number)}")


def _if_equal(value: int, code: bytes) -> bytes:
    """`code`, which returns, if what was loaded is `value`."""
    return _op(_EQUAL, value, 0, len(code) // len(_op(0, 0))) + code


def _only(argument: int, values: tuple[int, ...], refusal: bytes) -> bytes:
    """The call is allowed if an argument, but for flags, has one of these values."""
    allowed = b"".join(_if_equal(value, _op(_RETURN, _ALLOW)) for value in values)
    return _op(_LOAD, argument) + _op(_AND, 0x7FF) + allowed + refusal


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)  # struct sock_filter
