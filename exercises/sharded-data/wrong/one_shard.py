"""One archive for everything: `tar cf data.tar data`.

fails: packed as one-shard
fails: pack_cost as result-first
"""
# %% pack
def pack(folder, out, samples_per_shard):
    shard = f"{out}/data.tar"
    with tarfile.open(shard, "w") as tar:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                tar.add(path, arcname=str(path.relative_to(folder)))
    return [shard]
