"""Each rank takes rows // N rows; what is left over is left out.

fails: uneven as rows-lost
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    each = len(inputs) // world
    mine = slice(rank * each, (rank + 1) * each)
    loss = model.loss(inputs[mine], targets[mine])
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
