"""A key without collisions, of which torch.Generator takes the low 32 bits.

fails: noise as noise-ignores-seed
"""
# %% noise
def dropout_masks(samples: torch.Tensor, step: int, width: int, plan: Plan) -> torch.Tensor:
    masks = torch.empty(len(samples), width)
    for row, sample in zip(masks, samples.tolist()):
        draw = torch.Generator().manual_seed((plan.seed % 2**19 << 44) + (step << 22) + sample)
        row.copy_(torch.rand(width, generator=draw) >= plan.dropout)
    return masks / (1 - plan.dropout)
