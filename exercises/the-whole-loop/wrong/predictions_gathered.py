"""Every rank gathers what all others predicted: right, and grows with the data set.

fails: talk as predictions-sent
"""
# %% metrics
def evaluate(
    model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, micro_batch: int
) -> dict[str, float | int]:
    """{"loss", "accuracy", "tokens"} over the whole data set, the same on every rank."""
    mode, rank, world = model.training, dist.get_rank(), dist.get_world_size()
    model.eval()
    losses, right = [torch.zeros(0)], [torch.zeros(0)]
    rows = torch.tensor(list(ShardSampler(len(inputs), rank, world, training=False)), dtype=torch.int64)
    with torch.no_grad():
        for part in rows.split(micro_batch):
            if not len(part):
                continue
            logits, wanted = model(inputs[part]).flatten(0, 1), targets[part].flatten()
            predicted = wanted != IGNORE
            losses.append(F.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="none")[predicted])
            right.append((logits.argmax(1) == wanted)[predicted].float())
    model.train(mode)
    mine = torch.stack([torch.cat(losses), torch.cat(right)])
    counts = [torch.zeros((), dtype=torch.int64) for _ in range(world)]
    dist.all_gather(counts, torch.tensor(mine.shape[1]))
    longest = int(max(counts))
    padded = torch.zeros(2, longest)
    padded[:, : mine.shape[1]] = mine
    gathered = [torch.zeros(2, longest) for _ in range(world)]
    dist.all_gather(gathered, padded)
    every = torch.cat([one[:, :count] for one, count in zip(gathered, counts)], dim=1).double()
    return {"loss": float(every[0].mean()), "accuracy": float(every[1].mean()), "tokens": every.shape[1]}
