"""Sends rank 0's parameters in every step, to be sure.

fails: traffic as parameters-sent
"""
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    mine = my_samples(step, len(inputs), plan, dist.get_rank(), dist.get_world_size())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    optimizer.zero_grad()
    mean = torch.zeros((), dtype=torch.float64)
    for part in mine.split(plan.micro_batch):
        logits = model(inputs[part], dropout_masks(part, step, model.width, plan))
        loss = F.cross_entropy(logits, targets[part], reduction="sum") / plan.global_batch
        loss.backward()
        mean += loss.detach()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
    dist.all_reduce(mean)
    optimizer.step()
    for parameter in model.parameters():
        dist.broadcast(parameter.data, src=0)
    return float(mean)
