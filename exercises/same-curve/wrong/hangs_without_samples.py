"""A rank without samples makes no gradients, and leaves the others waiting.

fails: curve as empty-part
"""
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    mine = my_samples(step, len(inputs), plan, dist.get_rank(), dist.get_world_size())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    optimizer.zero_grad()
    mean = torch.zeros((), dtype=torch.float64)
    for first in range(0, len(mine), plan.micro_batch):
        part = mine[first : first + plan.micro_batch]
        logits = model(inputs[part], dropout_masks(part, step, model.width, plan))
        loss = F.cross_entropy(logits, targets[part], reduction="sum") / plan.global_batch
        loss.backward()
        mean += loss.detach()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
    dist.all_reduce(mean)
    optimizer.step()
    return float(mean)
