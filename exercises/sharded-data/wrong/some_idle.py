"""The shards are dealt one by one, and when they have run out the others get nothing.

fails: few_shards as idle
"""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    order = random.Random(f"{seed}, {epoch}")
    mixed = order.sample(shards, len(shards))
    for shard in mixed[rank * workers + worker :: world_size * workers]:
        with tarfile.open(shard, "r:") as tar:
            inside = [(member.name, tar.extractfile(member).read()) for member in tar if member.isfile()]
        order.shuffle(inside)
        yield from inside
