"""Each process shuffles the shards that were dealt to it for good.

fails: order as dealt-alike
"""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    process, processes = rank * workers + worker, world_size * workers
    order = random.Random(f"{seed}, {epoch}")
    mixed = shards
    if len(mixed) >= processes:
        mine, part, parts = mixed[process::processes], 0, 1
    else:
        mine, part = [mixed[process % len(mixed)]], process // len(mixed)
        parts = len(range(process % len(mixed), processes, len(mixed)))
    for shard in order.sample(mine, len(mine)):
        with tarfile.open(shard, "r:") as tar:
            inside = [(member.name, tar.extractfile(member).read()) for member in tar if member.isfile()]
        inside = inside[part::parts]
        order.shuffle(inside)
        yield from inside
