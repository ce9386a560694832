"""Each rank takes a block of neighbouring rows: those are not the rows that it has.

fails: traffic as others-rows
fails: memory as others-rows
"""
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    mine = torch.arange(len(inputs)).tensor_split(world)[rank]
    count = len(mine)
    mine = mine if count else torch.tensor([0])
    loss = model.loss(inputs[mine], targets[mine]) * (count * world / len(inputs))
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
