"""random.shuffle with the global generator, which has another state in each process.

fails: once as unseeded
fails: few_shards as unseeded
fails: order as unseeded
fails: opens as result-first
fails: lazy as result-first
"""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    process, processes = rank * workers + worker, world_size * workers
    order = random
    mixed = order.sample(shards, len(shards))
    if len(mixed) >= processes:
        mine, part, parts = mixed[process::processes], 0, 1
    else:
        mine, part = [mixed[process % len(mixed)]], process // len(mixed)
        parts = len(range(process % len(mixed), processes, len(mixed)))
    for shard in mine:
        with tarfile.open(shard, "r:") as tar:
            inside = [(member.name, tar.extractfile(member).read()) for member in tar if member.isfile()]
        inside = inside[part::parts]
        order.shuffle(inside)
        yield from inside
