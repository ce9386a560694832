"""Puts new Parameter objects with the right values into the model; the tie between two layers is cut, and so is the optimizer.

fails: start as parameters-replaced
fails: training as parameters-replaced
fails: traffic as result-first
fails: memory as result-first
"""
# %% broadcast
def broadcast_model(model):
    with torch.no_grad():
        for layer in model.modules():
            for name, parameter in list(layer.named_parameters(recurse=False)):
                value = parameter.detach().clone()
                dist.broadcast(value, src=0)
                setattr(layer, name, torch.nn.Parameter(value, requires_grad=parameter.requires_grad))
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
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
