"""Reduce-scatter, divide one N-th of the sum on each rank, all-gather: what an all-reduce is made of."""
# %% broadcast
def broadcast_model(model):
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor, src=0)
# %% average
def average_gradients(model):
    world = dist.get_world_size()
    trainable = [p for p in model.parameters() if p.requires_grad]
    for parameter in trainable:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.reshape(-1) for p in trainable])
    size = -(-flat.numel() // world)
    padded = F.pad(flat, (0, size * world - flat.numel()))
    mine = torch.empty(size, dtype=flat.dtype)
    dist.reduce_scatter_tensor(mine, padded)
    dist.all_gather_into_tensor(padded, mine / world)
    start = 0
    for parameter in trainable:
        parameter.grad.copy_(padded[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()
# %% step
def train_step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    average_gradients(model)
    optimizer.step()
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
