"""An index of names first, and then the shard is opened again for each of them.

fails: opens as reopened-per-sample
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
            inside = tar.getnames()
        inside = inside[part::parts]
        order.shuffle(inside)
        for name in inside:
            with tarfile.open(shard, "r:") as tar:
                yield name, tar.extractfile(name).read()
