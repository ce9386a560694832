"""Buckets from the first layer to the last.

fails: buckets as forward-order
fails: overlap as nothing-early
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, size = [], 0
    for parameter in [p for p in model.parameters() if p.requires_grad]:
        if not buckets or parameter.dtype != buckets[-1][0].dtype or size + parameter.nbytes > cap_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.nbytes
    return buckets
