"""The micro-batches' losses are added up, and one backward pass at the end goes through all of them.

fails: memory as all-at-once-in-training
"""
# %% train
def train_epoch(
    model: DistributedDataParallel,
    optimizer: torch.optim.Optimizer,
    sampler: ShardSampler,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    epoch: int,
    micro_batch: int,
    accumulate: int,
) -> list[float]:
    """Train for one epoch; the mean loss per predicted token of each step, over all ranks."""
    sampler.set_epoch(epoch)
    model.train()
    world, losses = dist.get_world_size(), []
    for rows in torch.tensor(list(sampler)).split(micro_batch * accumulate):
        tokens = (targets[rows] != IGNORE).sum()
        dist.all_reduce(tokens)
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        parts = rows.split(micro_batch)
        for number, part in enumerate(parts):
            logits = model(inputs[part]).flatten(0, 1)
            total = total + F.cross_entropy(logits, targets[part].flatten(), ignore_index=IGNORE, reduction="sum")
        (total * world / tokens).backward()
        optimizer.step()
        total = total.detach()
        dist.all_reduce(total)
        losses.append(float(total / tokens))
    return losses
