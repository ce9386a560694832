"""Each rank averages its own samples and weighs its mean with its share of the batch; torch's generators, seeded with a digest."""
# %% start
def new_model(make, seed):
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    model = make()
    torch.set_rng_state(before)
    return model
# %% order
def digest(*numbers):
    import hashlib

    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "little")


def my_samples(step, dataset_size, plan, rank, world_size):
    mine = []
    for place in range(step * plan.global_batch + rank, (step + 1) * plan.global_batch, world_size):
        epoch, index = divmod(place, dataset_size)
        generator = torch.Generator().manual_seed(digest("order", plan.seed, epoch))
        mine.append(torch.randperm(dataset_size, generator=generator)[index])
    return torch.stack(mine) if mine else torch.empty(0, dtype=torch.int64)
# %% noise
def dropout_masks(samples, step, width, plan):
    rows = []
    for sample in samples:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(digest("mask", plan.seed, step, int(sample)))
            rows.append(F.dropout(torch.ones(1, width), plan.dropout))
    return torch.cat([torch.empty(0, width), *rows])
# %% rate
def learning_rate(step, plan):
    ratio = plan.global_batch / plan.base_batch
    peak = plan.base_lr * ratio if plan.rule == "linear" else plan.base_lr * ratio**0.5
    s = step * plan.global_batch + plan.global_batch
    rising = min(1.0, s / plan.warmup_samples) if plan.warmup_samples else 1.0
    falling = max(0, s - plan.warmup_samples) / (plan.total_samples - plan.warmup_samples)
    return peak * rising * (1 + math.cos(math.pi * min(falling, 1))) / 2
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    rank, world = dist.get_rank(), dist.get_world_size()
    mine = my_samples(step, len(targets), plan, rank, world)
    optimizer.zero_grad(set_to_none=True)
    added = 0.0
    for part in mine.split(plan.micro_batch) if len(mine) else ():
        loss = F.cross_entropy(model(inputs[part], dropout_masks(part, step, model.width, plan)), targets[part])
        (loss * len(part) / len(mine)).backward()
        added += float(loss.detach()) * len(part)
    share = len(mine) * world / plan.global_batch  # of this rank's mean in the mean over the ranks
    for parameter in model.parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad * share
        dist.all_reduce(gradient)
        parameter.grad = gradient / world
    told = [torch.zeros(2, dtype=torch.float64) for _ in range(world)]
    dist.all_gather(told, torch.tensor([added, len(mine)], dtype=torch.float64))
    total, count = torch.stack(told).sum(0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    optimizer.step()
    return float(total / count)
