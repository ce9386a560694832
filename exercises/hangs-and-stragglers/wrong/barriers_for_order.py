"""A barrier before every tensor, in whatever order: all are there, each with another one.

fails: mended as order-differs
fails: cost as result-first
"""
# %% mean_of_each
def mean_of_each(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mean over the ranks of each tensor, under its name. All ranks have the same names, each in an order of its own."""
    for name in list(tensors):
        dist.barrier()
        dist.all_reduce(tensors[name])
        tensors[name] /= dist.get_world_size()
    return tensors
