"""Only files that lie directly in a folder of the data set are packed, one level deep.

fails: packed as subfolders-missed
fails: pack_cost as result-first
"""
# %% pack
def pack(folder: str, out: str, samples_per_shard: int) -> list[str]:
    files = sorted(path for path in Path(folder).glob("*/*") if path.is_file())
    shards = []
    for start in range(0, len(files), samples_per_shard):
        shard = Path(out) / f"shard-{len(shards):05d}.tar"
        with tarfile.open(shard, "w") as tar:
            for file in files[start : start + samples_per_shard]:
                tar.add(file, arcname=file.relative_to(folder).as_posix())
        shards.append(str(shard))
    return shards
