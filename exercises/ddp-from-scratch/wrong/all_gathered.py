"""Gathers the gradients of all ranks on every rank and adds them there.

fails: traffic as gradients-gathered
fails: memory as too-much-memory
"""
# %% broadcast
def broadcast_model(model):
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor, src=0)
# %% average
def average_gradients(model):
    trainable = [p for p in model.parameters() if p.requires_grad]
    mine = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in trainable])
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    mean = sum(everyone) / len(everyone)
    for parameter, piece in zip(trainable, mean.split([p.numel() for p in trainable])):
        parameter.grad = piece.view_as(parameter).clone()
# %% step
def train_step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    average_gradients(model)
    optimizer.step()
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
