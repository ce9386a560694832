"""Calls the library's all_reduce: the right numbers, and nothing learnt.

fails: traffic as used-a-collective
"""
# %% chunks
def chunk_bounds(numel, world_size):
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
# %% ring
def ring_all_reduce(tensor):
    result = tensor.clone()
    dist.all_reduce(result)
    return result
