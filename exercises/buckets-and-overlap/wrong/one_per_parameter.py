"""A bucket for every parameter.

fails: buckets as one-per-parameter
fails: collectives as one-per-parameter
"""
# %% buckets
def make_buckets(model, cap_bytes):
    return [[p] for p in reversed(list(model.parameters())) if p.requires_grad]
