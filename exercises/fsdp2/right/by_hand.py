"""The norm from the shards' squares, the checkpoint by gather to rank 0, sums instead of means: fully_shard is told not to divide."""
# %% prepare
def prepare(model, make_optimizer):
    with torch.no_grad():
        for parameter in model.parameters():
            if dist.get_rank() > 0:
                parameter.zero_()
            dist.all_reduce(parameter)
    units = [*model.blocks, model]
    for unit in units:
        fully_shard(unit, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32))
    for unit in units:
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction with a factor
    return make_optimizer(model.parameters())
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world = dist.get_rank(), dist.get_world_size()
    rows = list(range(rank, len(inputs), world))
    loss = model.loss(inputs[rows or [0]], targets[rows or [0]]) * len(rows) / len(inputs)
    loss.backward()
    shards = [p.grad.to_local() for p in model.parameters()]
    numbers = torch.stack([loss.detach().double(), *[sum(g.double().square().sum() for g in shards).reshape(())]])
    dist.all_reduce(numbers)
    norm = float(numbers[1]) ** 0.5
    for gradient in shards:
        gradient *= min(1.0, max_norm / (norm + 1e-6))
    optimizer.step()
    optimizer.zero_grad()
    return float(numbers[0]), norm
# %% checkpoint
def full_state(model):
    rank, world = dist.get_rank(), dist.get_world_size()
    state, known = {}, {}
    for name, value in model.state_dict().items():
        local = value.to_local()
        if (local.data_ptr(), local.shape) in known and local.numel():
            if rank == 0:
                state[name] = state[known[local.data_ptr(), local.shape]]
            continue
        each = -(-len(value) // world)
        padded = local.new_zeros(each, *value.shape[1:])
        padded[: len(local)] = local
        parts = [torch.empty_like(padded) for _ in range(world)] if rank == 0 else None
        dist.gather(padded, parts, dst=0)
        if rank == 0:
            state[name] = torch.cat(parts)[: len(value)].clone()
        known[local.data_ptr(), local.shape] = name
    return state
