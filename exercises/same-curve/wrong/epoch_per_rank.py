"""The epoch is counted from the samples that one rank has read.

fails: order as epoch-per-rank
fails: curve as result-first
fails: resume as result-first
"""
# %% order
def my_samples(step, dataset_size, plan, rank, world_size):
    batch = []
    for i in range(plan.global_batch):
        place = step * plan.global_batch + i
        epoch = place // world_size // dataset_size
        order = np.random.default_rng([plan.seed, 0, epoch]).permutation(dataset_size)
        batch.append(int(order[place % dataset_size]))
    return torch.tensor(batch[rank::world_size], dtype=torch.int64)
