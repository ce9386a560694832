"""The mask is drawn from seed, step and rank: different on every rank, and another one on another number of ranks.

fails: noise as noise-by-rank
fails: curve as result-first
fails: resume as result-first
"""
# %% noise
def dropout_masks(samples, step, width, plan):
    draw = np.random.default_rng([plan.seed, dist.get_rank(), step])
    keep = torch.from_numpy(draw.random((len(samples), width))) >= plan.dropout
    return keep.float() / (1 - plan.dropout)
