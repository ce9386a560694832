"""Where ranks compute: on the processor, talking through gloo, or on a GPU each, through NCCL (AMD's RCCL has its name).

A process that has used a GPU cannot be forked: its children find the GPU's driver in a state they cannot use. So the
process that starts ranks keeps its hands off, GPUs are counted in a process made for it, and a rank takes its own GPU
after the fork. Ranks on the processor see no GPU at all: `fully_shard` and others would take one without being asked.
"""

from __future__ import annotations

import os
from functools import cache

import torch
import torch.distributed as dist

CPU, GPU = "cpu", "cuda"  # PyTorch calls AMD's GPUs "cuda" too
BACKENDS = {
    CPU: "gloo",
    GPU: "cpu:gloo,cuda:nccl",
}  # on GPUs gloo stays for tensors that are on the processor
HIDES_GPUS = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}


@cache
def gpus() -> int:
    """How many GPUs ranks may use here: those that PyTorch sees, if it can also talk between them."""
    if not dist.is_nccl_available():
        return 0
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = 0
        try:
            count = torch.cuda.device_count()
        finally:
            os.write(theirs, str(count).encode())
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return int(said or 0)


def best_device(world_size: int) -> str:
    """ "cuda" where each of `world_size` ranks can have a GPU of its own, else "cpu"."""
    return GPU if gpus() >= world_size else CPU


def require(device: str, world_size: int) -> None:
    """Raise ValueError, in one sentence, when `world_size` ranks cannot compute on `device`."""
    if device not in BACKENDS:
        raise ValueError(f'device must be "cpu" or "cuda", not {device!r}')
    if device == GPU and gpus() < world_size:
        there = "this PyTorch has no NCCL" if not dist.is_nccl_available() else f"{gpus()} can be used here"
        raise ValueError(
            f"{world_size} ranks need {world_size} GPU{'s' if world_size > 1 else ''}, one each, but {there}; "
            'say device="cpu", or ranks.best_device(world_size) to take GPUs only where they are'
        )


def take(device: str, rank: int) -> None:
    """In the process of `rank`, before it computes anything: from here on, tensors are made on its device."""
    if device == CPU:
        os.environ.update(HIDES_GPUS)
        return
    torch.cuda.set_device(rank)
    torch.set_default_device(torch.device(GPU, rank))


def synchronize() -> None:
    """Wait until this rank's GPU has done all it was told to. On the processor there is nothing to wait for.

    Call it before you read a clock: on a GPU, Python only gives orders, and `Work.wait()` lets the GPU wait, not you.
    """
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def explain(error: str) -> str:
    """The text of an exception; in the reader's words where PyTorch speaks of forks, of which she knows nothing."""
    if "autograd's threading in combination with fork" not in error:
        return error
    return (
        "this process computed gradients while it could see a GPU, and ranks cannot be forked from it after that; "
        "restart the kernel, and call backward() in ranks only, or set CUDA_VISIBLE_DEVICES=-1 before you import torch"
    )
