"""Sample by sample; the gradients by reduce-scatter and all-gather; a schedule made of PyTorch's own, set to the step."""
# %% order
def my_samples(step, dataset_size, plan, rank, world_size):
    def at(place):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((place // dataset_size, plan.seed), spawn_key=(9,))))
        return int(generator.permutation(dataset_size)[place % dataset_size])

    size, more = divmod(plan.global_batch, world_size)
    first = step * plan.global_batch + rank * size + min(rank, more)
    return torch.tensor([at(place) for place in range(first, first + size + (rank < more))], dtype=torch.int64)
# %% noise
def dropout_masks(samples, step, width, plan):
    masks = np.ones((len(samples), width), dtype=np.float32)
    for row, sample in zip(masks, samples.tolist()):
        stream = np.random.Generator(np.random.Philox(key=np.array([plan.seed, (step << 32) + sample], dtype=np.uint64)))
        row[stream.random(width, dtype=np.float32) < plan.dropout] = 0
    return torch.from_numpy(masks).div_(1 - plan.dropout)
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    rank, world = dist.get_rank(), dist.get_world_size()
    optimizer.zero_grad()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    losses = torch.zeros(1, dtype=torch.float64)
    for sample in my_samples(step, len(inputs), plan, rank, world).tolist():
        one = torch.tensor([sample])
        loss = F.cross_entropy(model(inputs[one], dropout_masks(one, step, model.width, plan)), targets[one])
        loss.backward()
        losses += loss.detach()
    flat = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    size = -(-flat.numel() // world)
    padded = F.pad(flat, (0, size * world - flat.numel()))
    part = torch.empty(size, dtype=flat.dtype)
    dist.reduce_scatter_tensor(part, padded)
    dist.all_gather_into_tensor(padded, part / plan.global_batch)
    for parameter, values in zip(model.parameters(), padded[: flat.numel()].split([p.numel() for p in model.parameters()])):
        parameter.grad = values.view_as(parameter)
    optimizer.param_groups[0].update(lr=learning_rate(step, plan))
    optimizer.step()
    dist.all_reduce(losses)
    return losses.item() / plan.global_batch
