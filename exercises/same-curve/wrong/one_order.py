"""The epoch is not in the key: the forgotten set_epoch.

fails: order as same-order-every-epoch
"""
# %% order
def my_samples(step: int, dataset_size: int, plan: Plan, rank: int, world_size: int) -> torch.Tensor:
    first = step * plan.global_batch
    where = torch.arange(first, first + plan.global_batch)
    batch = torch.empty_like(where)
    for epoch in range(int(where[0]) // dataset_size, int(where[-1]) // dataset_size + 1):
        shuffle = np.random.default_rng([plan.seed, 0])
        order = torch.from_numpy(shuffle.permutation(dataset_size))
        here = where // dataset_size == epoch
        batch[here] = order[where[here] % dataset_size]
    return batch[rank::world_size]
