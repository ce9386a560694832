"""Fresh draws: the cases a judge tries, made from a secret seed.

The same seed, exercise and check give the same draws, so a grade can be repeated; another seed gives other numbers, so
there is nothing to learn by heart.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


class Draw:
    """A source of cases for one check.

    `case(text)` says in words which case is being tried; feedback shows it with whatever is found next.
    """

    def __init__(self, seed: str, *path: str) -> None:
        digest = hashlib.sha256("/".join((seed, *path)).encode()).digest()
        self._random = random.Random(digest)
        self._torch = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        self.current_case: str | None = None

    def case(self, text: str) -> None:
        """Name the case that follows: "3 ranks, float32, 1,025 elements"."""
        self.current_case = text

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return self._random.randint(low, high)

    def odd(self, low: int, high: int) -> int:
        """An odd number from low to high: divisible by no even number of ranks."""
        low += 1 - low % 2
        return low + 2 * self._random.randint(0, (high - low) // 2)

    def uneven(self, low: int, high: int, world_size: int) -> int:
        """A number from low to high that `world_size` ranks cannot share evenly (for 1 rank, any number)."""
        for _ in range(1000):
            number = self.integer(low, high)
            if world_size == 1 or number % world_size:
                return number
        raise ValueError(f"no number from {low} to {high} is uneven for {world_size} ranks")

    def choice(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(list(items), len(items))

    def seed(self) -> int:
        """A number to seed something with, below 2**31."""
        return self._random.getrandbits(31)

    def tensor(
        self, *shape: int, dtype: torch.dtype = torch.float32, low: float = -1.0, high: float = 1.0
    ) -> torch.Tensor:
        """A tensor of `shape`, uniform in [low, high); whole numbers for integer dtypes."""
        if dtype.is_floating_point:
            drawn = torch.float32 if dtype == torch.float32 else torch.float64  # which takes twice as long
            return torch.empty(shape, dtype=drawn).uniform_(low, high, generator=self._torch).to(dtype)
        return torch.randint(
            int(low), max(int(high), int(low) + 1), shape, generator=self._torch, dtype=dtype
        )
