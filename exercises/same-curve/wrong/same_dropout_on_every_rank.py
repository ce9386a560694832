"""The mask is drawn from seed and step for whatever rows there are: every rank drops the same units.

fails: noise as noise-by-position
fails: curve as result-first
fails: resume as result-first
"""
# %% noise
def dropout_masks(samples, step, width, plan):
    draw = np.random.default_rng([plan.seed, step])
    keep = torch.from_numpy(draw.random((len(samples), width))) >= plan.dropout
    return keep.float() / (1 - plan.dropout)
