"""A shuffle buffer whose last samples are never given out.

fails: once as end-of-shard-lost
fails: few_shards as end-of-shard-lost
fails: opens as result-first
fails: lazy as result-first
"""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    process, processes = rank * workers + worker, world_size * workers
    order = random.Random(f"{seed}, {epoch}")
    mixed = order.sample(shards, len(shards))
    if len(mixed) >= processes:
        mine, part, parts = mixed[process::processes], 0, 1
    else:
        mine, part = [mixed[process % len(mixed)]], process // len(mixed)
        parts = len(range(process % len(mixed), processes, len(mixed)))
    buffer = []
    for shard in mine:
        with tarfile.open(shard, "r:") as tar:
            for number, member in enumerate(tar):
                if number % parts == part:
                    buffer.append((member.name, tar.extractfile(member).read()))
                if len(buffer) > 8:
                    yield buffer.pop(order.randrange(len(buffer)))
