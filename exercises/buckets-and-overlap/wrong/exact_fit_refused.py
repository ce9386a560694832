"""Refuses a parameter that would fill the bucket exactly.

fails: buckets as bucket-not-full
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, size = [], 0
    for parameter in reversed([p for p in model.parameters() if p.requires_grad]):
        if not buckets or parameter.dtype != buckets[-1][0].dtype or size + parameter.nbytes >= cap_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.nbytes
    return buckets
