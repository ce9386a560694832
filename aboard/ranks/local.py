"""Fork N ranks from this process: torch is loaded, so they are there in milliseconds."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from aboard.ranks.call import Call, Counters, Run
from aboard.ranks.crew import lead
from aboard.ranks.device import require
from aboard.ranks.folder import Attendant, Folder
from aboard.ranks.memory import PeakWatch
from aboard.ranks.rank import Lookup, live_as_rank

MOST_RANKS = 64


def run(
    function: Callable[..., Any],
    world_size: int,
    *per_rank: list[Any],
    timeout_s: float = 60.0,
    device: str = "cpu",
    **common: Any,
) -> Run:
    """Run `function` on `world_size` ranks and collect what each returns.

    Positional arguments are lists of length `world_size`: rank r is handed item r of each, and no other. Keyword
    arguments are the same on every rank. Inside `function`, `torch.distributed` is initialised; `dist.get_rank()`
    and `dist.get_world_size()` answer. Outputs must be tensors, numbers, strings, or lists, tuples, dicts of them.

    `device`: "cpu" (gloo) or "cuda" (NCCL or RCCL), where rank r has GPU r, new tensors are made there, inputs are brought
    there, and outputs are taken back. `best_device(world_size)` says which there is.

    >>> run(lambda x: x * dist.get_rank(), 3, [1, 1, 1]).outputs
    [0, 1, 2]

    Raises RanksFailed, with a sentence naming rank, operation and line, when a rank raises, dies, or all wait for
    each other; that takes about two seconds, not `timeout_s`.
    """
    if not 1 <= world_size <= MOST_RANKS:
        raise ValueError(f"world_size must be from 1 to {MOST_RANKS}, not {world_size}")
    for position, values in enumerate(per_rank):
        if len(values) != world_size:
            raise ValueError(f"positional argument {position} has {len(values)} items for {world_size} ranks")
    require(device, world_size)
    name = getattr(function, "__name__", "function")
    inputs = [list(values) for values in per_rank]
    call = Call(name, inputs, common, world_size, timeout_s=timeout_s, device=device)
    return run_call(call, lambda _name, _drive: function)


def run_call(call: Call, lookup: Lookup) -> Run:
    """Fork the ranks for `call`, lead them through it, and leave none behind."""
    # Without a name, gloo looks up the host's own name first, which takes seconds where DNS does not answer.
    call.interface = call.interface or ("lo0" if sys.platform == "darwin" else "lo")
    if torch.cuda.is_initialized():
        raise RuntimeError(
            "CUDA is already in use in this process, so ranks cannot be forked from it; restart the kernel and run the "
            "ranks before anything touches the GPU"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    # A file to meet at: PyTorch's TCP store looks up host names, which can take 5 s where DNS does not answer.
    meeting = tempfile.mkdtemp(prefix="ranks-")
    call.address = os.path.join(meeting, "store")
    children: list[int] = []
    socks: list[socket.socket] = []
    count = max(1, call.world_size)
    try:
        for _ in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                for sock in socks:
                    sock.close()
                ours.close()
                _be_quiet()
                live_as_rank(theirs, lookup)
            theirs.close()
            children.append(pid)
            socks.append(ours)
        watch: list[PeakWatch] = []

        def done() -> Counters:
            return Counters(peak_bytes=watch[0].stop())

        with _folders(call, meeting, children) as folders:
            run = lead(socks, call, lambda: watch.append(PeakWatch(children)), done)
        if call.end_after:
            for pid in children:
                _end(pid)
        run.kept = [folder.take_back() for folder in folders]
        return run
    finally:
        for sock in socks:
            sock.close()
        for pid in children:
            _end(pid)
        shutil.rmtree(meeting, ignore_errors=True)


@contextmanager
def _folders(call: Call, place: str, children: list[int]) -> Iterator[list[Folder]]:
    """A folder for each rank, if the call has files for them; while in here, what the kernel tells of them is taken."""
    if call.files is None:
        yield []
        return
    base = os.open(place, os.O_RDONLY)
    folders: list[Folder] = []
    try:
        for rank, pid in enumerate(children):
            end = partial(os.kill, pid, signal.SIGKILL)
            folders.append(Folder(base, f"folder-{rank}", call.files, call.end_after, end))
        call.folders = [os.path.join(place, folder.name) for folder in folders]
        attendant = Attendant(folders)
        try:
            yield folders
        finally:
            attendant.stop()
    except BaseException:
        for folder in folders:
            folder.close()
        raise
    finally:
        os.close(base)


def _be_quiet() -> None:
    """Warnings of torch's C++ side about host names and sockets would land between the learner's own lines."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
