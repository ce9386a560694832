"""Sets the same seed on every rank and relies on it; the model was made before.

fails: start as not-broadcast
fails: training as not-broadcast
"""
# %% broadcast
def broadcast_model(model):
    torch.manual_seed(0)
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
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    average_gradients(model)
    optimizer.step()
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
