"""One row of noise, for all samples of the step.

fails: noise as same-for-all-samples
"""
# %% noise
def dropout_masks(samples, step, width, plan):
    draw = np.random.default_rng([plan.seed, step])
    keep = torch.from_numpy(draw.random(width)) >= plan.dropout
    return (keep.float() / (1 - plan.dropout)).repeat(len(samples), 1)
