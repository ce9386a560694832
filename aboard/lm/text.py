"""The text, and the batches drawn from it.

The text is the prose of this book's own first pages, frozen: real English, 31 kB, one token a byte.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

VOCABULARY = 128  # every byte of the text is plain ASCII


@cache
def corpus() -> Tensor:
    """The whole text as one row of tokens: int64, values below VOCABULARY."""
    data = files("aboard.lm").joinpath("text.txt").read_bytes()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()


def batch(step: int, size: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The global batch of one step: (inputs, targets), each [size, length] int64; targets are inputs one token on.

    Row i depends on seed, step and i alone. So N ranks that take rows `rank::N` of it train on exactly what one
    process does with all of it, and a run resumed at `step` goes on with the batch it would have seen. The rows are where new
    tensors are made: on a rank's GPU, if it has one.
    """
    text = corpus()
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    starts = torch.randint(len(text) - length, (size,), generator=generator, device="cpu")
    rows = torch.stack([text[start : start + length + 1] for start in starts.tolist()])
    rows = rows.to(torch.get_default_device())
    return rows[:, :-1], rows[:, 1:]
