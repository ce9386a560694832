"""Drops units, and does not scale up the others.

fails: noise as wrong-scale
"""
# %% noise
def dropout_masks(samples: torch.Tensor, step: int, width: int, plan: Plan) -> torch.Tensor:
    masks = torch.empty(len(samples), width)
    for row, sample in zip(masks, samples.tolist()):
        draw = np.random.default_rng([plan.seed, 1, step, sample])
        row.copy_(torch.from_numpy(draw.random(width)) >= plan.dropout)
    return masks
