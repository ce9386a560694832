"""Reads the bytes as text and writes them back, with what is no UTF-8 replaced.

fails: once as contents-changed
fails: few_shards as contents-changed
fails: order as contents-changed
fails: opens as contents-changed
fails: lazy as contents-changed
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
            inside = [(member.name, tar.extractfile(member).read().decode(errors="replace").encode()) for member in tar if member.isfile()]
        inside = inside[part::parts]
        order.shuffle(inside)
        yield from inside
