"""One read per shard, and the archive is taken apart in memory; numpy shuffles; files are packed in a mixed order."""
# %% pack
def pack(folder, out, samples_per_shard):
    files = [path for path in Path(folder).glob("**/*") if not path.is_dir()]
    random.Random(1).shuffle(files)
    count = -(-len(files) // samples_per_shard)
    shards = [Path(out, f"data-{number:06d}-of-{count:06d}.tar") for number in range(count)]
    for number, shard in enumerate(shards):
        with tarfile.TarFile(shard, "w") as tar:
            for path in files[number * samples_per_shard : (number + 1) * samples_per_shard]:
                tar.add(str(path), str(path.relative_to(folder)))
    return [str(shard) for shard in shards]
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    import io

    import numpy as np

    generator = np.random.default_rng([seed, epoch])
    P, S = world_size * workers, len(shards)
    # Every process and every shard on one line: with few shards, several processes begin in the same one.
    row = generator.permutation(S)
    me = rank + world_size * worker
    tasks = [(s, 0, 1) for s in row[me::P]]
    if S < P:
        place = me * S // P
        sharing = [p for p in range(P) if p * S // P == place]
        tasks = [(row[place], sharing.index(me), len(sharing))]
    for shard, part, parts in tasks:
        archive = tarfile.open(fileobj=io.BytesIO(Path(shards[shard]).read_bytes()))
        members = archive.getmembers()
        order = np.random.default_rng([seed, epoch, int(shard)]).permutation(len(members))
        for i in order[part::parts]:
            yield members[i].name, archive.extractfile(members[i]).read()
