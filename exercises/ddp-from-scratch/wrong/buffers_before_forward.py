"""Sends rank 0's buffers before the forward pass only: after the step the ranks differ.

fails: training as buffers-drift
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
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    average_gradients(model)
    optimizer.step()
