"""Rank 0 sorts, and the others go on as before.

fails: mended as order-differs
fails: cost as result-first
"""
# %% mean_of_each
def mean_of_each(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mean over the ranks of each tensor, under its name. All ranks have the same names, each in an order of its own."""
    for name in sorted(tensors) if dist.get_rank() == 0 else list(tensors):
        dist.all_reduce(tensors[name])
        tensors[name] /= dist.get_world_size()
    return tensors
