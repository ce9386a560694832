"""The loss is the mean over the rank's own rows, and fully_shard averages over the ranks.

fails: uneven as mean-of-means
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(inputs[rank::world])
    mine = slice(rank, None, world) if count else slice(0, 1)
    loss = model.loss(inputs[mine], targets[mine]) * (1.0 if count else 0.0)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
