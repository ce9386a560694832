"""Clips on the local tensors, as if these were the parameters, and adds the norms up for the log.

fails: clipping as local-norm
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(inputs[rank::world])
    mine = slice(rank, None, world) if count else slice(0, 1)
    loss = model.loss(inputs[mine], targets[mine]) * (count * world / len(inputs))
    optimizer.zero_grad()
    loss.backward()
    local = [p.grad.to_local() for p in model.parameters()]
    norm = nn.utils.get_total_norm(local)
    for gradient in local:
        gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
    square = norm**2
    dist.all_reduce(square)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), square.sqrt().item()
