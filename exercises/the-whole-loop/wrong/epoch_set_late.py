"""set_epoch stands at the end, for the next epoch: right as long as a run begins at epoch 0.

fails: training as epoch-set-late
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
    model.train()
    world, losses = dist.get_world_size(), []
    for rows in torch.tensor(list(sampler)).split(micro_batch * accumulate):
        tokens = (targets[rows] != IGNORE).sum()
        dist.all_reduce(tokens)
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        parts = rows.split(micro_batch)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with nullcontext() if last else model.no_sync():  # around forward and backward
                logits = model(inputs[part]).flatten(0, 1)
                loss = F.cross_entropy(logits, targets[part].flatten(), ignore_index=IGNORE, reduction="sum")
                (loss * world / tokens).backward()  # the mean over the ranks divides by world
            total += loss.detach()
        optimizer.step()
        dist.all_reduce(total)
        losses.append(float(total / tokens))
    sampler.set_epoch(epoch + 1)
    return losses
