"""All stop when the first has no more batches.

fails: mended as batches-lost
fails: cost as result-first
"""
# %% mean_per_step
def mean_per_step(batches, size):
    count = torch.tensor(len(batches))
    dist.all_reduce(count, op=dist.ReduceOp.MIN)
    means = []
    for batch in batches[: int(count)]:
        dist.all_reduce(batch)
        means.append(batch / dist.get_world_size())
    return means
