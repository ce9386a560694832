"""The key is a sum of products, and the numbers are larger than its author thought.

fails: noise as keys-collide
"""
# %% noise
def dropout_masks(samples: torch.Tensor, step: int, width: int, plan: Plan) -> torch.Tensor:
    masks = torch.empty(len(samples), width)
    for row, sample in zip(masks, samples.tolist()):
        draw = np.random.default_rng(plan.seed * 1_000_000_007 + step * 10_007 + sample)
        row.copy_(torch.from_numpy(draw.random(width)) >= plan.dropout)
    return masks / (1 - plan.dropout)
