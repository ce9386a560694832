"""A LambdaLR that is made with the process counts its own calls: after a restart it begins again.

fails: resume as starts-over
"""
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    mine = my_samples(step, len(inputs), plan, dist.get_rank(), dist.get_world_size())
    if not hasattr(optimizer, "scheduler"):
        for group in optimizer.param_groups:
            group["lr"] = 1.0
        optimizer.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda calls: learning_rate(calls, plan))
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
    optimizer.scheduler.step()
    return float(mean)
