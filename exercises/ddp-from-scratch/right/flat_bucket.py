"""All gradients in one flat tensor: one large all-reduce in place of many small ones. The start travels as one flat tensor per
dtype."""
# %% broadcast
def broadcast_model(model):
    everything = [*(p.data for p in model.parameters()), *model.buffers()]
    for dtype in dict.fromkeys(t.dtype for t in everything):
        group = [t for t in everything if t.dtype == dtype]
        flat = torch.cat([t.reshape(-1) for t in group])
        dist.broadcast(flat, 0)
        for tensor, piece in zip(group, flat.split([t.numel() for t in group])):
            tensor.copy_(piece.view_as(tensor))
# %% average
def average_gradients(model):
    trainable = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in trainable])
    flat /= dist.get_world_size()
    dist.all_reduce(flat)
    for parameter, piece in zip(trainable, flat.split([p.numel() for p in trainable])):
        parameter.grad = piece.view_as(parameter)
# %% step
def train_step(model, optimizer, inputs, targets):
    loss = F.cross_entropy(model(inputs), targets)
    loss.backward()
    average_gradients(model)
    optimizer.step()
    model.zero_grad(set_to_none=False)
    for buffer in model.buffers():
        if dist.get_rank() != 0:
            buffer.zero_()
        dist.all_reduce(buffer)
