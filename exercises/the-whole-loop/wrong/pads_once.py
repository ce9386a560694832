"""The order is filled up with its own beginning, once: not enough when there are twice as many ranks as samples.

fails: order as wrong-len
"""
# %% sampler
class ShardSampler:
    """The numbers of the samples that one rank reads, out of 0 to size - 1."""

    def __init__(self, size: int, rank: int, world_size: int, seed: int = 0, training: bool = True) -> None:
        self.size, self.rank, self.world_size, self.seed, self.training = size, rank, world_size, seed, training
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Call this before an epoch: it decides the order of a sampler for training."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many numbers this rank gets in an epoch."""
        if self.training:
            return -(-self.size // self.world_size)
        return len(range(self.rank, self.size, self.world_size))

    def __iter__(self) -> Iterator[int]:
        """This rank's numbers in the order in which it reads them: Python integers."""
        if not self.training:
            return iter(range(self.rank, self.size, self.world_size))
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.size, generator=generator)  # the same on every rank
        places = torch.arange(self.rank, len(self) * self.world_size, self.world_size)
        order = torch.cat([order, order])
        return iter(order[places[places < len(order)]].tolist())
