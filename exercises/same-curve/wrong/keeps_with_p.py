"""Keeps a unit with the probability with which it should be dropped.

fails: noise as wrong-share
fails: traffic as result-first
fails: memory as result-first
"""
# %% noise
def dropout_masks(samples: torch.Tensor, step: int, width: int, plan: Plan) -> torch.Tensor:
    masks = torch.empty(len(samples), width)
    for row, sample in zip(masks, samples.tolist()):
        draw = np.random.default_rng([plan.seed, 1, step, sample])
        row.copy_(torch.from_numpy(draw.random(width)) < plan.dropout)
    return masks / (1 - plan.dropout)
