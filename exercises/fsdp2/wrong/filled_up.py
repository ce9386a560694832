"""As a sampler for several ranks does: every rank gets the same number of rows, and some rows are used twice.

fails: uneven as rows-twice
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    each = -(-len(inputs) // world)
    rows = [i % len(inputs) for i in range(rank, each * world, world)]
    loss = model.loss(inputs[rows], targets[rows])
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
