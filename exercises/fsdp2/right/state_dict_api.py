"""PyTorch's own helpers: rank 0's state dict broadcast into the sharded model, gathered by get_model_state_dict."""
# %% prepare
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh


def prepare(model, make_optimizer):
    whole = {name: value.clone() for name, value in model.state_dict().items()} if dist.get_rank() == 0 else {}
    options = {
        "mesh": init_device_mesh("cpu", (dist.get_world_size(),)),
        "mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32),
    }
    for block in reversed(model.blocks):
        fully_shard(block, reshard_after_forward=True, **options)
    fully_shard(model, **options)
    set_model_state_dict(model, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    return make_optimizer(list(model.parameters()))
# %% step
def train_step(model, optimizer, inputs, targets, max_norm):
    rank, world, total = dist.get_rank(), dist.get_world_size(), len(inputs)
    rows = torch.arange(total)
    mine, wanted = inputs[rows % world == rank], targets[rows % world == rank]
    weight = world * len(mine) / total
    if not len(mine):
        mine, wanted = inputs[-1:], targets[-1:]
    model.zero_grad()
    loss = model.loss(mine, wanted)
    (weight * loss).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    optimizer.step()
    parts = [torch.zeros(1) for _ in range(world)]
    dist.all_gather(parts, weight * loss.detach().reshape(1))
    return float(sum(parts)) / world, float(norm.full_tensor())
# %% checkpoint
def full_state(model):
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
