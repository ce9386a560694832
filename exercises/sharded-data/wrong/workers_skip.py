"""The shards are dealt over the ranks, and each worker of a rank reads all of them and takes every k-th sample.

fails: few_shards as idle
fails: opens as reads-every-shard
"""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    order = random.Random(seed * 1000 + epoch)
    for shard in order.sample(shards, len(shards))[rank::world_size]:
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
            order.shuffle(members)
            for member in members[worker::workers]:
                yield member.name, tar.extractfile(member).read()
