"""Mixed precision as in the script for one box: autocast around the forward pass, no policy.

fails: precision as computed-in-float32
fails: traffic as computed-in-float32
fails: memory as computed-in-float32
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    return make_optimizer(model.parameters())
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(inputs[rank::world])
    mine = slice(rank, None, world) if count else slice(0, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(inputs[mine], targets[mine])
    loss = loss * (count * world / len(inputs))
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
