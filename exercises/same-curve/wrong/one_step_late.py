"""Steps are counted from one: step 0 reads what step 1 should.

fails: order as first-step-skipped
"""
# %% order
def my_samples(step: int, dataset_size: int, plan: Plan, rank: int, world_size: int) -> torch.Tensor:
    """The numbers (0 to dataset_size - 1, int64, one dimension) of the samples that `rank` takes in step 0, 1, 2, …"""
    first = (step + 1) * plan.global_batch
    where = torch.arange(first, first + plan.global_batch)
    batch = torch.empty_like(where)
    for epoch in range(int(where[0]) // dataset_size, int(where[-1]) // dataset_size + 1):
        shuffle = np.random.default_rng([plan.seed, 0, epoch])  # 0: orders, 1: masks
        order = torch.from_numpy(shuffle.permutation(dataset_size))
        here = where // dataset_size == epoch
        batch[here] = order[where[here] % dataset_size]
    return batch[rank::world_size]
