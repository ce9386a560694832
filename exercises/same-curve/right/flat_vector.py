"""Contiguous parts; masks from a hash of the key, for all rows at once; one flat vector that carries the loss as well."""
# %% start
def new_model(make, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
    for parameter in model.parameters():
        dist.broadcast(parameter.data, src=0)
    return model
# %% order
def epoch_order(seed, epoch, size):
    return mixed(mixed(mixed(np.uint64(seed)) ^ np.uint64(epoch)) ^ np.arange(size, dtype=np.uint64)).argsort(kind="stable")


def my_samples(step, dataset_size, plan, rank, world_size):
    begin, end = step * plan.global_batch, (step + 1) * plan.global_batch
    epochs = range(begin // dataset_size, -(-end // dataset_size))
    row = np.concatenate([epoch_order(plan.seed, epoch, dataset_size) for epoch in epochs])
    begin -= epochs[0] * dataset_size
    batch = row[begin : begin + plan.global_batch]
    return torch.from_numpy(np.array_split(batch, world_size)[rank]).long()
# %% noise
def mixed(x):
    """The finishing function of SplitMix64: every bit of the result depends on every bit of x."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def dropout_masks(samples, step, width, plan):
    key = mixed(mixed(mixed(plan.seed) ^ np.uint64(step)) ^ samples.numpy().astype(np.uint64))
    bits = mixed(key[:, None] ^ np.arange(width, dtype=np.uint64)[None, :])
    uniform = (bits >> np.uint64(11)).astype(np.float64) / 2.0**53
    return torch.from_numpy(np.where(uniform < plan.dropout, 0.0, 1 / (1 - plan.dropout))).float()
# %% rate
def learning_rate(step, plan):
    peak = plan.base_lr * (plan.global_batch / plan.base_batch) ** {"linear": 1.0, "sqrt": 0.5}[plan.rule]
    now, warm, end = plan.global_batch * (step + 1), plan.warmup_samples, plan.total_samples
    if now < warm:
        return now * peak / warm
    return 0.0 if now >= end else peak * math.cos(0.5 * math.pi * (now - warm) / (end - warm)) ** 2
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    rows = my_samples(step, inputs.shape[0], plan, dist.get_rank(), dist.get_world_size())
    parameters = list(model.parameters())
    flat = torch.zeros(sum(p.numel() for p in parameters) + 1, dtype=parameters[0].dtype)
    for first in range(0, len(rows), plan.micro_batch):
        part = rows[first : first + plan.micro_batch]
        logits = model(inputs[part], dropout_masks(part, step, model.width, plan))
        loss = F.cross_entropy(logits, targets[part], reduction="none").sum()
        gradients = torch.autograd.grad(loss, parameters)
        flat += torch.cat([*(g.reshape(-1) for g in gradients), loss.detach().reshape(1)])
    dist.all_reduce(flat)
    flat /= plan.global_batch
    torch.nn.utils.vector_to_parameters(flat[:-1], [p_grad(p) for p in parameters])
    optimizer.param_groups[0]["lr"] = learning_rate(step, plan)
    optimizer.step()
    return flat[-1].item()


def p_grad(parameter):
    parameter.grad = torch.empty_like(parameter)
    return parameter.grad
