"""The rank that has no more batches leaves.

fails: mended as leaves-early
fails: cost as result-first
"""
# %% mean_per_step
def mean_per_step(batches, size):
    means = []
    for batch in batches:
        both = torch.cat([batch, torch.ones(1)])
        dist.all_reduce(both)
        means.append(both[:size] / both[size])
    return means
