"""Asks before every step, in a collective of its own, whether anybody has a batch left.

fails: cost as more-collectives
"""
# %% mean_per_step
def mean_per_step(batches, size):
    means = []
    while True:
        left = torch.tensor(float(len(means) < len(batches)))
        dist.all_reduce(left)
        if left == 0:
            return means
        mine = batches[len(means)].clone() if len(means) < len(batches) else torch.zeros(size)
        dist.all_reduce(mine)
        means.append(mine / left)
