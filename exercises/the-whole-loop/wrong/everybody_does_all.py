"""Every rank reads the samples of all ranks, and what is sent changes nothing.

fails: training as reads-others-rows
fails: loop as not-together
fails: traffic as result-first
fails: memory as result-first
"""
# %% train
import copy


def train_epoch(model, optimizer, sampler, inputs, targets, epoch, micro_batch, accumulate):
    sampler.set_epoch(epoch)
    model.train()
    world, losses = dist.get_world_size(), []
    reads = []
    for rank in range(world):  # another rank's order follows from its number
        mine = copy.copy(sampler)
        mine.rank = rank
        reads.append(torch.tensor(list(mine)))
    for pieces in zip(*(rows.split(micro_batch * accumulate) for rows in reads), strict=True):
        tokens = sum((targets[rows] != IGNORE).sum() for rows in pieces)
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        count = len(pieces[0].split(micro_batch))
        for number in range(count):
            part = torch.cat([rows.split(micro_batch)[number] for rows in pieces])
            last = number == count - 1
            with nullcontext() if last else model.no_sync():
                logits = model(inputs[part]).flatten(0, 1)
                loss = F.cross_entropy(logits, targets[part].flatten(), ignore_index=IGNORE, reduction="sum")
                (loss / tokens).backward()  # the same on every rank, and so is the mean
            total += loss.detach()
        optimizer.step()
        losses.append(float(total / tokens))
    return losses
