"""One question before the loop; tensors in one flat one; barriers by everyone.
"""
# %% train_and_save
def train_and_save(values, every, save):
    total = torch.zeros_like(values[0])
    world, rank = dist.get_world_size(), dist.get_rank()
    for start in range(0, len(values), every):
        part = values[start : start + every]
        for value in part:
            dist.all_reduce(value)
            total = total + value / world
        if len(part) == every:
            if rank == 0:
                save(total)
            dist.barrier()
    return total
# %% mean_of_each
def mean_of_each(tensors):
    names = sorted(tensors)
    flat = torch.cat([tensors[name] for name in names])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    return dict(zip(names, flat.split([tensors[name].numel() for name in names])))
# %% mean_per_step
def mean_per_step(batches, size):
    world = dist.get_world_size()
    counts = [torch.zeros(1) for _ in range(world)]
    dist.all_gather(counts, torch.tensor([float(len(batches))]))
    means = []
    for step in range(int(max(counts))):
        mine = batches[step].clone() if step < len(batches) else torch.zeros(size)
        dist.all_reduce(mine)
        means.append(mine / sum(count > step for count in counts))
    return means
