"""Handles to wait for, and a count that travels with the values; a flag of who is done in the same tensor.
"""
# %% mean_of_each
def mean_of_each(tensors):
    works = [dist.all_reduce(tensors[name], async_op=True) for name in sorted(tensors, reverse=True)]
    for work in works:
        work.wait()
    return {name: tensor / dist.get_world_size() for name, tensor in tensors.items()}
# %% mean_per_step
def mean_per_step(batches, size):
    longest = torch.tensor(len(batches))
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    means = []
    for step in range(int(longest)):
        have = step < len(batches)
        both = torch.cat([batches[step] if have else torch.zeros(size), torch.tensor([float(have)])])
        dist.all_reduce(both)
        means.append(both[:-1] / both[-1])
    return means
