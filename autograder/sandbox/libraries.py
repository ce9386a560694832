"""What rooms will need, imported before anything of a learner runs: in the server that they are forks of, and in a Jupyter
kernel, which is no fork. No thread may start here: rooms are forked."""

from __future__ import annotations

import gc
import sys


def load(optimizers: bool) -> None:
    """Import PyTorch and what ranks use. optimizers: those and fully_shard, too, hundreds of modules when first used."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if optimizers:
        _load_optimizers()

    from aboard import ranks  # noqa: F401

    torch.nn.functional.relu(torch.ones(2, 2) @ torch.ones(2, 2))
    assert dist.is_available()


def loaded_optimizers() -> bool:
    return "torch._dynamo" in sys.modules


def load_in_kernel(optimizers: bool) -> None:
    """What a kernel runs at its start. (A server, which is forked, looks for no garbage from its own beginning on.)"""
    gc.disable()
    load(optimizers)
    settle()


def settle() -> None:
    """All is imported. Pages of long-lived objects stay shared with every rank. Garbage of the imports stays where it is: what
    is freed here would be room in the heap that every rank can fill without growing, unseen by whoever measures its memory.
    """
    gc.freeze()
    gc.enable()


def _load_optimizers() -> None:
    import torch
    import torch._dynamo
    import torch.distributed.checkpoint.state_dict
    import torch.distributed.fsdp  # noqa: F401

    for kind in (torch.optim.SGD, torch.optim.AdamW):
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.zeros(1)
        kind([weight], lr=0.1).step()
