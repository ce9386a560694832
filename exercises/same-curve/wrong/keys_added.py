"""The key of a mask is a sum: step 3 of sample 4 is step 4 of sample 3.

fails: noise as keys-collide
"""
# %% noise
def dropout_masks(samples: torch.Tensor, step: int, width: int, plan: Plan) -> torch.Tensor:
    masks = torch.empty(len(samples), width)
    for row, sample in zip(masks, samples.tolist()):
        draw = np.random.default_rng(plan.seed + step + sample)
        row.copy_(torch.from_numpy(draw.random(width)) >= plan.dropout)
    return masks / (1 - plan.dropout)
