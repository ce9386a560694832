"""Trains right, and returns the loss of the rank's own rows.

fails: training as own-loss
fails: uneven as own-loss
fails: clipping as own-loss
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(inputs[rank::world])
    mine = slice(rank, None, world) if count else slice(0, 1)
    loss = model.loss(inputs[mine], targets[mine]) * (count * world / len(inputs))
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item(), norm.full_tensor().item()
