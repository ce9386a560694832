"""The sampler keeps a list and repeats it; shares in blocks."""
# %% sampler
class ShardSampler:
    """The numbers of the samples that one rank reads, out of 0 to size - 1."""

    def __init__(self, size: int, rank: int, world_size: int, seed: int = 0, training: bool = True) -> None:
        self.size, self.rank, self.world_size, self.seed, self.training = size, rank, world_size, seed, training
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _mine(self) -> list[int]:
        everything = list(range(self.size))
        if not self.training:
            edges = [self.size * r // self.world_size for r in range(self.world_size + 1)]
            return everything[edges[self.rank] : edges[self.rank + 1]]
        random.Random(f"{self.seed} {self.epoch}").shuffle(everything)
        each = math.ceil(self.size / self.world_size)
        while len(everything) < each * self.world_size:
            everything += everything[: each * self.world_size - len(everything)]
        return everything[self.rank * each : (self.rank + 1) * each]

    def __len__(self) -> int:
        return len(self._mine())

    def __iter__(self) -> Iterator[int]:
        return iter(self._mine())


import math
import random
