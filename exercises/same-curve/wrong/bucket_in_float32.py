"""The gradients are packed into a buffer of float32, whatever they are.

fails: curve as rounded
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
    bucket = torch.cat([p.grad.reshape(-1).to(torch.float32) for p in model.parameters()])
    dist.all_reduce(bucket)
    for parameter, part in zip(model.parameters(), bucket.split([p.numel() for p in model.parameters()])):
        parameter.grad.copy_(part.view_as(parameter))
    dist.all_reduce(mean)
    optimizer.step()
    return float(mean)
