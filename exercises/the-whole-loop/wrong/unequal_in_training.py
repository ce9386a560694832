"""The strided cut of evaluation in training, too: some ranks get a sample less.

fails: order as unequal-parts
fails: loop as not-together
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
        return len(range(self.rank, self.size, self.world_size))

    def __iter__(self) -> Iterator[int]:
        """This rank's numbers in the order in which it reads them: Python integers."""
        if not self.training:
            return iter(range(self.rank, self.size, self.world_size))
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.size, generator=generator)  # the same on every rank
        places = torch.tensor(list(range(self.rank, self.size, self.world_size)), dtype=torch.int64)
        return iter(order[places % self.size].tolist())
