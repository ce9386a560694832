"""The second round goes through the chunks in the order of the first.

fails: result as overwritten
fails: traffic as result-first
fails: memory as result-first
"""
# %% chunks
def chunk_bounds(numel, world_size):
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    result = tensor.clone().contiguous()
    flat = result.view(-1)
    chunks = [flat[a:b] for a, b in chunk_bounds(flat.numel(), world)]
    right, left = (rank + 1) % world, (rank - 1) % world
    for step in range(world - 1):
        mine = chunks[(rank - step - 1) % world]
        arriving = torch.empty_like(mine)
        sending = dist.isend(chunks[(rank - step) % world], right)
        dist.recv(arriving, left)
        sending.wait()
        mine += arriving
    for step in range(world - 1):
        mine = chunks[(rank - step - 1) % world]
        sending = dist.isend(chunks[(rank - step) % world], right)   # the indices of the first round again
        dist.recv(mine, left)
        sending.wait()
    return result
