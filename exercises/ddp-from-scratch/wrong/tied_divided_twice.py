"""Divides layer by layer, and a tied weight belongs to two layers: it is divided twice.

fails: gradients as tied-twice
fails: training as tied-twice
fails: traffic as result-first
fails: memory as result-first
"""
# %% broadcast
def broadcast_model(model):
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor, src=0)
# %% average
def average_gradients(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
    for layer in model.modules():
        for parameter in layer.parameters(recurse=False):
            if parameter.requires_grad:
                parameter.grad /= dist.get_world_size()
# %% step
def train_step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    average_gradients(model)
    optimizer.step()
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
