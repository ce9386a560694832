"""The ranks' means are averaged.

fails: metrics as metric-mean-of-means
fails: loop as not-together
"""
# %% metrics
def evaluate(
    model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, micro_batch: int
) -> dict[str, float | int]:
    """{"loss", "accuracy", "tokens"} over the whole data set, the same on every rank."""
    mode = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64)  # loss, right ones, tokens
    rows = torch.tensor(
        list(ShardSampler(len(inputs), dist.get_rank(), dist.get_world_size(), training=False)), dtype=torch.int64
    )
    with torch.no_grad():
        for part in rows.split(micro_batch):
            if not len(part):
                continue
            logits, wanted = model(inputs[part]).flatten(0, 1), targets[part].flatten()
            sums[0] += F.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="sum")
            sums[1] += (logits.argmax(1) == wanted).sum()  # no logit has the number IGNORE
            sums[2] += (wanted != IGNORE).sum()
    model.train(mode)
    tokens = sums[2].clone()
    means = sums[:2] / tokens.clamp(min=1)
    dist.all_reduce(means)
    dist.all_reduce(tokens)
    loss, right = (means / dist.get_world_size()).tolist()
    return {"loss": loss, "accuracy": right, "tokens": int(tokens)}
