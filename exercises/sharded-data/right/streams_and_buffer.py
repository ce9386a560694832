"""Streams: a tar written and read as a stream, torch's generator, a shuffle buffer that is emptied at the end; a shared shard is
cut into blocks in a shuffle that all who share it do alike."""
# %% pack
def pack(folder, out, samples_per_shard):
    import os

    names = []
    for where, folders, files in os.walk(folder):
        names += [os.path.relpath(os.path.join(where, file), folder) for file in files]
    names.sort(key=lambda name: name[::-1])  # any order will do
    shards = []
    while names:
        now, names = names[:samples_per_shard], names[samples_per_shard:]
        shards.append(os.path.join(out, f"{len(shards)}.tar"))
        with open(shards[-1], "wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
            for name in now:
                with open(os.path.join(folder, name), "rb") as sample:
                    info = tarfile.TarInfo(name)
                    info.size = os.fstat(sample.fileno()).st_size
                    tar.addfile(info, sample)
    return shards
# %% samples
def samples(shards, rank, world_size, worker, workers, epoch, seed):
    import torch

    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    row = torch.randperm(len(shards), generator=generator).tolist()
    me, all_of_us = worker * world_size + rank, world_size * workers
    if len(row) < all_of_us:
        yield from part_of_one(shards, row, me, all_of_us, generator)
        return
    buffer = []
    for shard in row[me::all_of_us]:
        with open(shards[shard], "rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                buffer.append((member.name, tar.extractfile(member).read()))
                if len(buffer) > 10:
                    yield buffer.pop(int(torch.randint(len(buffer), (1,), generator=generator)))
    while buffer:
        yield buffer.pop(int(torch.randint(len(buffer), (1,), generator=generator)))


def part_of_one(shards, row, me, all_of_us, generator):
    import torch

    sharing = [p for p in range(all_of_us) if p % len(row) == me % len(row)]
    mine = sharing.index(me)
    with tarfile.open(shards[row[me % len(row)]]) as tar:
        members = tar.getmembers()
        alike = torch.randperm(len(members), generator=generator).tolist()
        for i in alike[len(members) * mine // len(sharing) : len(members) * (mine + 1) // len(sharing)]:
            yield members[i].name, tar.extractfile(members[i]).read()
