"""All-reduces after each of its own micro-batches; a rank that has fewer of them makes fewer calls.

fails: curve as collectives-differ
fails: resume as collectives-differ
fails: traffic as sent-every-micro-batch
"""
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    mine = my_samples(step, len(inputs), plan, dist.get_rank(), dist.get_world_size())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    optimizer.zero_grad()
    mean = torch.zeros((), dtype=torch.float64)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for part in mine.split(plan.micro_batch):
        optimizer.zero_grad()
        logits = model(inputs[part], dropout_masks(part, step, model.width, plan))
        loss = F.cross_entropy(logits, targets[part], reduction="sum") / plan.global_batch
        loss.backward()
        mean += loss.detach()
        for parameter, kept in zip(model.parameters(), total):
            dist.all_reduce(parameter.grad)
            kept += parameter.grad
    for parameter, kept in zip(model.parameters(), total):
        parameter.grad = kept
    dist.all_reduce(mean)
    optimizer.step()
    return float(mean)
