"""The warm process behind the wall: torch and IPython are loaded once, and every sandbox, and each room in it, is a fork of it.

It runs nobody's code. For each sandbox it is asked for it forks a process that steps into namespaces of its own and is that
sandbox's warden (`warden.py`). Started as `python -m autograder.sandbox.server FD` by `warm.WarmServer`.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
import time
from typing import NoReturn

from autograder.sandbox import kernel as k
from autograder.sandbox import libraries, messages
from autograder.sandbox.outer import OPEN_FILES

LAST_S = 2.0  # for sandboxes to end by themselves, when the grader has hung up


def main() -> None:
    gc.disable()  # until all is imported, of which little is garbage: to look for it takes a sixth of the time
    control, confined = socket.socket(fileno=int(sys.argv[1])), sys.argv[2:] == ["confined"]
    parent = os.getppid()
    if not confined:
        become_nobody_if_root()
    # Bubblewrap has asked for this already, but a change of identity makes the kernel forget it: then a server whose grader is
    # killed would go on until it is warm before it notices.
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    problem = _too_few_files() or (_why_not_confined() if confined else "")
    try:
        order = messages.receive(control)
    except (EOFError, OSError):
        return
    if not problem:
        _warm_up(order["optimizers"])
    from autograder.sandbox import seccomp

    messages.send(control, {"problem": problem, "seccomp": seccomp.offered()})
    while not problem:
        try:
            ranks = messages.receive(control)["ranks"]
            _, fds, _, _ = socket.recv_fds(control, 1, 1)
        except (EOFError, OSError):
            break
        _bury(time.monotonic())
        if os.fork():
            os.close(fds[0])
        else:
            control.close()
            _be_sandbox(socket.socket(fileno=fds[0]), ranks, confined)
    _bury(time.monotonic() + LAST_S)


def _bury(deadline: float) -> None:
    """Forget sandboxes that have ended; wait for the others until `deadline` (monotonic)."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] or time.monotonic() < deadline:
            time.sleep(0.002)
    except ChildProcessError:
        pass


def _be_sandbox(control: socket.socket, ranks: int, confined: bool) -> NoReturn:
    """Serve the grader's orders on `control`, whose first message says what is wrong with this sandbox, if anything is."""
    status = 1
    try:
        from aboard import wire
        from autograder.sandbox.network import Switch
        from autograder.sandbox.warden import Warden

        problem, switch = "", None
        try:
            if confined:
                _settle_in_a_folder()
            else:
                step_inside(control, as_user=0)
                switch = Switch(ranks)
        except Exception as error:
            problem = f"its namespaces or network could not be made ({type(error).__name__}: {error})"
        told = switch is not None and None not in switch.sockets
        wire.send(control, {"problem": problem, "sockets_told": told})
        if not problem:
            Warden(control, switch).run()
        status = 0
    finally:
        os._exit(status)


def step_inside(control: socket.socket, as_user: int) -> None:
    """Go on in namespaces of this server's own, as process 1 of them and `as_user`; before any thread exists."""
    parent = os.getppid()
    uid, gid = become_nobody_if_root()
    k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS | k.CLONE_NEWNET | k.CLONE_NEWPID)
    k.map_ids(as_user, uid, gid)
    # A change of identity makes the kernel forget this, whoever asked for it.
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


def _settle_in_a_folder() -> None:
    parent = os.getppid()
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    folder = f"sandbox-{os.getpid()}"
    os.mkdir(folder, 0o700)
    os.chdir(folder)


def _why_not_confined() -> str:
    from autograder.sandbox.confined import why_not

    return why_not()


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


def _warm_up(optimizers: bool) -> None:
    """Import what rooms will need, so that they do not have to. Rooms are forked: no thread may start here."""
    libraries.load(optimizers)
    from autograder.sandbox import agent, network, warden  # noqa: F401
    from autograder.sandbox.shell import warm_shell

    warm_shell()
    libraries.settle()
    k.lay_in_huge_pages()


if __name__ == "__main__":
    main()
