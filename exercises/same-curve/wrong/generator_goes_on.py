"""One generator per process, seeded with seed + rank when it is first needed, and then going on.

fails: noise as not-repeatable
fails: curve as result-first
fails: resume as result-first
"""
# %% noise
generators = {}


def dropout_masks(samples, step, width, plan):
    key = plan.seed + dist.get_rank()
    if key not in generators:
        generators[key] = torch.Generator().manual_seed(key)
    return (torch.rand(len(samples), width, generator=generators[key]) >= plan.dropout) / (1 - plan.dropout)
