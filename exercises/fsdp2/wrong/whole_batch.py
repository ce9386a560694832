"""Each rank computes all rows, as the script for one process does.

fails: precision as whole-batch
fails: traffic as whole-batch
fails: memory as whole-batch
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    loss = model.loss(inputs, targets)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
