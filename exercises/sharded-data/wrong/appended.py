"""The shard is opened in append mode for each sample.

fails: pack_cost as shard-reopened
"""
# %% pack
def pack(folder, out, samples_per_shard):
    shards = []
    for number, file in enumerate(sorted(path for path in Path(folder).rglob("*") if path.is_file())):
        shard = f"{out}/shard-{number // samples_per_shard:05d}.tar"
        if shard not in shards:
            shards.append(shard)
        with tarfile.open(shard, "a") as tar:
            tar.add(file, arcname=str(file.relative_to(folder)))
    return shards
