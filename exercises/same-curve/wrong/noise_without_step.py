"""The step is not in the key: a sample has the same mask all its life.

fails: noise as noise-frozen
"""
# %% noise
def dropout_masks(samples: torch.Tensor, step: int, width: int, plan: Plan) -> torch.Tensor:
    masks = torch.empty(len(samples), width)
    for row, sample in zip(masks, samples.tolist()):
        draw = np.random.default_rng([plan.seed, 1, sample])
        row.copy_(torch.from_numpy(draw.random(width)) >= plan.dropout)
    return masks / (1 - plan.dropout)
