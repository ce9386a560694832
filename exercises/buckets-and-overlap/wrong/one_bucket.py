"""One bucket for all, of each dtype: the cap is not looked at.

fails: buckets as one-bucket
fails: collectives as one-bucket
fails: overlap as nothing-early
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, size = [], 0
    for parameter in reversed([p for p in model.parameters() if p.requires_grad]):
        if not buckets or parameter.dtype != buckets[-1][0].dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.nbytes
    return buckets
