"""Unpacks the shards into a temporary folder and reads the small files.

fails: opens as unpacked-again
"""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    import tempfile

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
            with tempfile.TemporaryDirectory() as place:
                tar.extractall(place, filter="data")
                found = sorted(path for path in Path(place).rglob("*") if path.is_file())
                inside = [(str(path.relative_to(place)), path.read_bytes()) for path in found]
        inside = inside[part::parts]
        order.shuffle(inside)
        yield from inside
