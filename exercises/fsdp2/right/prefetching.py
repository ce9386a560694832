"""Blocks are gathered ahead in the forward pass too; inputs are not cast; one tensor carries all of rank 0's numbers."""
# %% prepare
def prepare(model, make_optimizer):
    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    dist.broadcast(flat, 0)
    nn.utils.vector_to_parameters(flat, model.parameters())
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, output_dtype=torch.float32, cast_forward_inputs=False)
    inner = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    blocks = list(model.blocks)
    for block in blocks:
        fully_shard(block, mp_policy=inner)
    fully_shard(model, mp_policy=policy)
    for block, following in zip(blocks, blocks[1:]):
        block.set_modules_to_forward_prefetch([following])
    return make_optimizer(model.parameters())
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    x, y = inputs[rank::world], targets[rank::world]
    optimizer.zero_grad(set_to_none=True)
    if len(x):
        loss = model.loss(x, y)
    else:
        loss = model.loss(inputs[:1], targets[:1]) * 0
    counts = torch.tensor([float(loss) * len(x), len(x)], dtype=torch.float64)
    dist.all_reduce(counts)
    loss.mul(len(x) * world / counts[1].item()).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm, foreach=False)
    optimizer.step()
    return (counts[0] / counts[1]).item(), norm.full_tensor().item()
# %% checkpoint
def full_state(model):
    def whole(value):
        full = value.full_tensor()
        return full.detach().clone() if dist.get_rank() == 0 else None

    state = {name: whole(value) for name, value in model.state_dict().items()}
    return {name: value for name, value in state.items() if value is not None}
