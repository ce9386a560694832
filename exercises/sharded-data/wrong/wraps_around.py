"""With fewer shards than processes it starts again at the first shard, and gives all of it once more.

fails: few_shards as shard-read-by-several
fails: opens as result-first
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
            inside = [(member.name, tar.extractfile(member).read()) for member in tar if member.isfile()]
        inside = inside[0::1]
        order.shuffle(inside)
        yield from inside
