"""Forgets the gradients after the backward pass, before they are averaged.

fails: training as gradients-forgotten
"""
# %% broadcast
def broadcast_model(model):
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor, src=0)
# %% average
def average_gradients(model):
    world = dist.get_world_size()
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= world
# %% step
def train_step(model, optimizer, inputs, targets):
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.zero_grad()
    average_gradients(model)
    optimizer.step()
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
