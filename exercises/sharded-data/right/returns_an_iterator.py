"""No generator: a lazy chain of shards, opened by the plain tarfile.open; seed and epoch go through hashlib."""
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    import hashlib
    import itertools

    def key(*parts):
        return hashlib.sha256(repr((seed, epoch, *parts)).encode()).digest()

    row = sorted(range(len(shards)), key=key)
    me, all_of_us = rank * workers + worker, world_size * workers

    def content(task):
        number, part, parts = task
        with tarfile.open(shards[number]) as tar:
            found = [(member.name, tar.extractfile(member).read()) for member in tar.getmembers()]
        found.sort(key=lambda sample: key(sample[0]))
        return found[part::parts]

    tasks = [(number, 0, 1) for number in row[me::all_of_us]]
    if len(row) < all_of_us:
        tasks = [(row[me % len(row)], me // len(row), -(-(all_of_us - me % len(row)) // len(row)))]
    return itertools.chain.from_iterable(map(content, tasks))
