"""A rank without rows has nothing to do and returns.

fails: uneven as rank-without-rows
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(inputs[rank::world])
    if not count:
        return 0.0, 0.0
    mine = slice(rank, None, world)
    loss = model.loss(inputs[mine], targets[mine]) * (count * world / len(inputs))
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
