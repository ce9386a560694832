"""Each process gets a block of shards // processes, and the last one the rest as well.

fails: once as last-takes-the-rest
"""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    process, processes = rank * workers + worker, world_size * workers
    order = random.Random(f"{seed}, {epoch}")
    mixed = order.sample(shards, len(shards))
    if len(mixed) >= processes:
        each = len(mixed) // processes
        mine, part, parts = mixed[process * each :], 0, 1
        if process < processes - 1:
            mine = mine[:each]
    else:
        mine, part = [mixed[process % len(mixed)]], process // len(mixed)
        parts = len(range(process % len(mixed), processes, len(mixed)))
    for shard in mine:
        with tarfile.open(shard, "r:") as tar:
            inside = [(member.name, tar.extractfile(member).read()) for member in tar if member.isfile()]
        inside = inside[part::parts]
        order.shuffle(inside)
        yield from inside
