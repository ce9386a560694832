"""Divides by the number of all ranks, whoever has a batch.

fails: mended as divided-by-world
fails: cost as result-first
"""
# %% mean_per_step
def mean_per_step(batches: list[torch.Tensor], size: int) -> list[torch.Tensor]:
    """For each step the mean over those ranks that still have a batch: as many means, on every rank, as the longest has batches.

    A batch has `size` float32 elements. A rank may have none at all. At most one collective more than there are means.
    """
    means = []
    while True:
        both = torch.zeros(size + 1)  # the sum, and how many ranks have added to it
        if len(means) < len(batches):
            both[:size], both[size] = batches[len(means)], 1
        dist.all_reduce(both)
        if both[size] == 0:
            return means
        means.append(both[:size] / dist.get_world_size())
