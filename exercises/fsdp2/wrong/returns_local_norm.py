"""Clips right, and logs the norm it reads off its own shards: item() of a partial DTensor.

fails: training as own-norm
fails: uneven as own-norm
fails: clipping as own-norm
fails: traffic as result-first
fails: memory as result-first
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(inputs[rank::world])
    mine = slice(rank, None, world) if count else slice(0, 1)
    loss = model.loss(inputs[mine], targets[mine]) * (count * world / len(inputs))
    optimizer.zero_grad()
    loss.backward()
    squares = [p.grad.square().sum().item() for p in model.parameters()]
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), sum(squares) ** 0.5
