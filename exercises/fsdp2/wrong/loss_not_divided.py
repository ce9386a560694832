"""Adds the losses of the ranks for the log and does not divide.

fails: training as loss-scaled
fails: uneven as loss-scaled
fails: clipping as loss-scaled
fails: traffic as result-first
fails: memory as result-first
"""
# %% step
def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor, max_norm: float
) -> tuple[float, float]:
    """One step on this rank's rows of the global batch: (loss of the global batch, norm of its gradient)."""
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(inputs[rank::world])
    # A rank without rows takes part in every collective with a row that counts nothing.
    mine = slice(rank, None, world) if count else slice(0, 1)
    # fully_shard divides the sum over the ranks by their number; a rank's mean counts as often as it has rows.
    loss = model.loss(inputs[mine], targets[mine]) * (count * world / len(inputs))
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return mean.item(), norm.full_tensor().item()
