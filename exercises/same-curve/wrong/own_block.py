"""Each rank reads its own block of the data set, in a random order: a good habit for files, and another batch.

fails: order as batch-depends-on-ranks
fails: curve as result-first
fails: resume as result-first
"""
# %% order
def my_samples(step: int, dataset_size: int, plan: Plan, rank: int, world_size: int) -> torch.Tensor:
    first = step * plan.global_batch
    where = torch.arange(first, first + plan.global_batch)
    batch = torch.empty_like(where)
    for epoch in range(int(where[0]) // dataset_size, int(where[-1]) // dataset_size + 1):
        shuffle = np.random.default_rng([plan.seed, 0, epoch])
        blocks = np.array_split(np.arange(dataset_size), world_size)
        blocks = [shuffle.permutation(block).tolist() for block in blocks]
        order = torch.tensor([block[i] for i in range(len(blocks[0])) for block in blocks if i < len(block)])
        here = where // dataset_size == epoch
        batch[here] = order[where[here] % dataset_size]
    return batch[rank::world_size]
