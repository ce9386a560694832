"""Everyone sends the whole tensor to rank 0, which adds and sends the sum back. Right numbers, and rank 0's link carries
the traffic of all: the more ranks, the slower.

fails: traffic as root-does-all
"""
# %% chunks
def chunk_bounds(numel, world_size):
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    result = tensor.clone()
    if rank == 0:
        buffer = torch.empty_like(result)
        for other in range(1, world):
            dist.recv(buffer, other)
            result += buffer
        for other in range(1, world):
            dist.send(result, other)
    else:
        dist.send(result, 0)
        dist.recv(result, 0)
    return result
