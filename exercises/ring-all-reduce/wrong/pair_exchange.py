"""Exchange with the neighbour and add: an all-reduce for two ranks, and only for two.

fails: result as only-your-neighbour
fails: traffic as result-first
fails: memory as result-first
"""
# %% chunks
def chunk_bounds(numel, world_size):
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    if world == 1:
        return tensor.clone()
    buffer = torch.empty_like(tensor)
    sending = dist.isend(tensor, (rank + 1) % world)
    dist.recv(buffer, (rank - 1) % world)
    sending.wait()
    return tensor + buffer
