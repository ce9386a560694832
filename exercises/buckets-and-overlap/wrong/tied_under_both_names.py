"""Goes through the names with duplicates: the tied weight is in the buckets twice, and what counts to it is never complete before the end.

fails: buckets as tied-twice
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, size = [], 0
    for parameter in reversed([p for _, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]):
        if not buckets or parameter.dtype != buckets[-1][0].dtype or size + parameter.nbytes > cap_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.nbytes
    return buckets
