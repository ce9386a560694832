"""Blocks of the order instead of every N-th; a scale on the loss of the last micro-batch's gradient instead of on each."""
# %% metrics
def evaluate(
    model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, micro_batch: int
) -> dict[str, float | int]:
    """{"loss", "accuracy", "tokens"} over the whole data set, the same on every rank."""
    was_training, rank, world = model.training, dist.get_rank(), dist.get_world_size()
    loss, right, tokens = 0.0, 0, 0
    model.eval()
    mine = list(ShardSampler(len(inputs), rank, world, training=False))
    with torch.inference_mode():
        for start in range(0, len(mine), micro_batch):
            rows = mine[start : start + micro_batch]
            log_p = model(inputs[rows]).log_softmax(-1)
            wanted = targets[rows]
            predicted = wanted != IGNORE
            loss -= float(log_p.gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1)[predicted].double().sum())
            right += int((log_p.argmax(-1) == wanted)[predicted].sum())
            tokens += int(predicted.sum())
    model.train(was_training)
    every = [None] * world
    dist.all_gather_object(every, (loss, right, tokens))
    loss, right, tokens = (sum(column) for column in zip(*every))
    return {"loss": loss / tokens, "accuracy": right / tokens, "tokens": tokens}

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
    """Sums go into .grad; what divides them is known when the step ends."""
    model.train()
    sampler.set_epoch(epoch)
    mine, world, losses = list(sampler), dist.get_world_size(), []
    for start in range(0, len(mine), micro_batch * accumulate):
        step = mine[start : start + micro_batch * accumulate]
        sums = torch.zeros(2, dtype=torch.float64)
        for begin in range(0, len(step), micro_batch):
            rows = step[begin : begin + micro_batch]
            model.require_backward_grad_sync = begin + micro_batch >= len(step)
            logits = model(inputs[rows])
            loss = F.cross_entropy(logits.transpose(1, 2), targets[rows], ignore_index=IGNORE, reduction="sum")
            loss.backward()
            sums += torch.stack([loss.detach().double(), (targets[rows] != IGNORE).sum().double()])
        dist.all_reduce(sums)
        for parameter in model.parameters():
            parameter.grad *= world / float(sums[1])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(sums[0] / sums[1]))
    return losses
