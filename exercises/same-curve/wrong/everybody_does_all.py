"""Every rank takes the whole batch through the model, and sends a gradient's worth of zeros.

fails: curve as reads-others-samples
fails: resume as reads-others-samples
fails: traffic as result-first
fails: memory as result-first
"""
# %% step
def train_step(model, optimizer, inputs, targets, step, plan):
    everything = my_samples(step, len(inputs), plan, 0, 1)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    optimizer.zero_grad()
    mean = torch.zeros((), dtype=torch.float64)
    for part in everything.split(plan.micro_batch):
        logits = model(inputs[part], dropout_masks(part, step, model.width, plan))
        loss = F.cross_entropy(logits, targets[part], reduction="sum") / plan.global_batch
        loss.backward()
        mean += loss.detach()
    for parameter in model.parameters():
        dist.all_reduce(torch.zeros_like(parameter))
    optimizer.step()
    return float(mean)
