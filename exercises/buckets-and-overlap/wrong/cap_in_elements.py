"""Compares the cap, which is in bytes, with a number of elements.

fails: buckets as cap-in-elements
fails: collectives as one-bucket
fails: overlap as nothing-early
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, size = [], 0
    for parameter in reversed([p for p in model.parameters() if p.requires_grad]):
        if not buckets or parameter.dtype != buckets[-1][0].dtype or size + parameter.numel() > cap_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel()
    return buckets
