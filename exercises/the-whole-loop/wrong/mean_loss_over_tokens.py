"""Mean losses of micro-batches are added up, and divided by the tokens.

fails: metrics as metric-divided-twice
fails: loop as not-together
fails: talk as result-first
fails: memory as result-first
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
            sums[0] += F.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="mean")
            sums[1] += (logits.argmax(1) == wanted).sum()  # no logit has the number IGNORE
            sums[2] += (wanted != IGNORE).sum()
    dist.all_reduce(sums)
    model.train(mode)
    loss, right, tokens = sums.tolist()
    return {"loss": loss / tokens, "accuracy": right / tokens, "tokens": int(tokens)}
