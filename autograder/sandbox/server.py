"""The warm process behind the wall: torch and IPython are loaded once, and each room is a fork of it.

Once warm it becomes the warden (`warden.py`). Started as `python -m autograder.sandbox.server FD RANKS` by
`outer.command`.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING

from autograder.sandbox import kernel as k
from autograder.sandbox.outer import OPEN_FILES

if TYPE_CHECKING:
    from autograder.sandbox.network import Switch


def main() -> None:
    gc.disable()  # until all is imported, of which little is garbage: to look for it takes a sixth of the time
    control, ranks = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    if sys.argv[3:] == ["confined"]:
        _serve_confined(control)
    else:
        _serve_behind_the_wall(control, ranks)


def step_inside(control: socket.socket, as_user: int) -> None:
    """Go on in namespaces of this server's own, as process 1 of them and `as_user`; before any thread exists."""
    parent = os.getppid()
    uid, gid = become_nobody_if_root()
    k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS | k.CLONE_NEWNET | k.CLONE_NEWPID)
    k.map_ids(as_user, uid, gid)
    # Bubblewrap has asked for this already, but a change of identity makes the kernel forget it: then a server whose grader is
    # killed would go on until it is warm before it notices.
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    child = os.fork()
    if child:
        control.close()
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    k.mount("none", "/", None, k.MS_REC | k.MS_PRIVATE)
    k.mount("proc", "/proc", "proc", k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC)
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)


def _serve_behind_the_wall(control: socket.socket, ranks: int) -> None:
    step_inside(control, as_user=0)
    from autograder.sandbox.network import Switch

    problem, switch = "", None
    try:
        switch = Switch(ranks)
    except Exception as error:
        problem = f"its network could not be built ({type(error).__name__}: {error})"
    _be_warden(control, switch, problem)


def _serve_confined(control: socket.socket) -> None:
    from autograder.sandbox.confined import why_not

    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    _be_warden(control, None, why_not())


def _be_warden(control: socket.socket, switch: Switch | None, problem: str) -> None:
    from aboard import wire
    from autograder.sandbox import seccomp
    from autograder.sandbox.warden import Warden

    problem = problem or _too_few_files()
    if not problem:
        _warm_up()
    wire.send(control, {"op": "up", "problem": problem, "seccomp": seccomp.offered()})
    if not problem:
        Warden(control, switch).run()


def _too_few_files() -> str:
    """Rooms get as many open files as the system's limit allows; a sentence when that is not enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        return f"a process may open only {hard} files here (ulimit -n), and {OPEN_FILES} are needed"
    return ""


def become_nobody_if_root() -> tuple[int, int]:
    """As root, a wall has no user namespace: step down to an id that owns nothing before anything else."""
    with open("/proc/self/uid_map") as file:
        inside, outside, count = (int(field) for field in file.read().split()[:3])
    if os.geteuid() == 0 and (inside, outside) == (0, 0) and count > 1:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        k.prctl(k.PR_SET_DUMPABLE, 1)
    return os.geteuid(), os.getegid()


def _warm_up() -> None:
    """Import what rooms will need, so that they do not have to. No thread may start here: rooms are forked."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    # fully_shard alone takes half a second, and imports torch._dynamo, another half, when it is first called.
    import torch._dynamo
    import torch.distributed.fsdp  # noqa: F401

    from aboard import ranks  # noqa: F401
    from autograder.sandbox import agent  # noqa: F401
    from autograder.sandbox.shell import warm_shell

    warm_shell()
    torch.nn.functional.relu(torch.ones(2, 2) @ torch.ones(2, 2))
    # The first optimizer of a process imports hundreds of modules; here once, not in every rank.
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.zeros(1)
        kind([weight], lr=0.1).step()
    assert dist.is_available()
    # Pages of long-lived objects stay shared with every room. Garbage of the imports stays where it is: what is freed here
    # would be room in the heap that every rank can fill without growing, unseen by whoever measures its memory.
    gc.freeze()
    gc.enable()
    k.lay_in_huge_pages()


if __name__ == "__main__":
    main()
