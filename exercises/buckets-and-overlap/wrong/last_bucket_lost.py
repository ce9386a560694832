"""Appends a bucket when the next one begins, so that the last one is never appended.

fails: buckets as parameter-lost
fails: result as bucket-not-sent
fails: order as result-first
fails: collectives as result-first
fails: overlap as result-first
fails: memory as result-first
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, open_one, size = [], [], 0
    for parameter in reversed([p for p in model.parameters() if p.requires_grad]):
        if open_one and (parameter.dtype != open_one[0].dtype or size + parameter.nbytes > cap_bytes):
            buckets.append(open_one)
            open_one, size = [], 0
        open_one.append(parameter)
        size += parameter.nbytes
    return buckets
