"""Adds up the losses of the micro-batches, and goes backward once.

fails: memory as all-at-once
"""
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    mine = my_samples(step, len(inputs), plan, dist.get_rank(), dist.get_world_size())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    optimizer.zero_grad()
    total = 0.0
    mean = torch.zeros((), dtype=torch.float64)
    for part in mine.split(plan.micro_batch):
        logits = model(inputs[part], dropout_masks(part, step, model.width, plan))
        loss = F.cross_entropy(logits, targets[part], reduction="sum") / plan.global_batch
        total = total + loss
        mean += loss.detach()
    total.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
    dist.all_reduce(mean)
    optimizer.step()
    return float(mean)
