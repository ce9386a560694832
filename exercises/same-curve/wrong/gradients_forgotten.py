"""zero_grad stands between the all-reduce and the update.

fails: curve as gradients-forgotten
fails: resume as gradients-forgotten
fails: traffic as result-first
fails: memory as result-first
"""
# %% step
def train_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    step: int,
    plan: Plan,
) -> float:
    """Step number `step` of the run; the mean loss over the global batch, as a float."""
    mine = my_samples(step, len(inputs), plan, dist.get_rank(), dist.get_world_size())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    mean = torch.zeros((), dtype=torch.float64)
    for part in mine.split(plan.micro_batch):
        logits = model(inputs[part], dropout_masks(part, step, model.width, plan))
        loss = F.cross_entropy(logits, targets[part], reduction="sum") / plan.global_batch
        loss.backward()
        mean += loss.detach()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)  # every sample has weight 1 / global_batch already: the sum is the mean
    dist.all_reduce(mean)
    optimizer.zero_grad()
    optimizer.step()
    return float(mean)
