"""Gives the bytes without a name.

fails: once as not-a-pair
fails: few_shards as not-a-pair
fails: order as not-a-pair
fails: opens as not-a-pair
fails: lazy as not-a-pair
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
    for shard in mine:
        with tarfile.open(shard, "r:") as tar:
            inside = [tar.extractfile(member).read() for member in tar if member.isfile()]
        inside = inside[part::parts]
        order.shuffle(inside)
        yield from inside
