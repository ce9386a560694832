"""What arrives in the first round replaces what was there, instead of being added.

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
    result = tensor.clone()
    flat = result.view(-1)
    chunks = [flat[a:b] for a, b in chunk_bounds(flat.numel(), world)]
    for step in range(2 * (world - 1)):
        sending = dist.isend(chunks[(rank - step) % world], (rank + 1) % world)
        dist.recv(chunks[(rank - step - 1) % world], (rank - 1) % world)
        sending.wait()
    return result
