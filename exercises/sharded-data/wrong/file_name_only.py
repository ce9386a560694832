"""The name in the archive is the last part of the path: the class is gone, and names collide.

fails: packed as folder-lost
fails: pack_cost as result-first
"""
# %% pack
def pack(folder: str, out: str, samples_per_shard: int) -> list[str]:
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    shards = []
    for start in range(0, len(files), samples_per_shard):
        shard = Path(out) / f"shard-{len(shards):05d}.tar"
        with tarfile.open(shard, "w") as tar:
            for file in files[start : start + samples_per_shard]:
                tar.add(file, arcname=file.name)
        shards.append(str(shard))
    return shards
