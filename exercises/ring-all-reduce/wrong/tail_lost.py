"""Chunks of numel // N elements: what is left over when the size is not divisible stays where it was.

fails: chunks as chunks-do-not-cover
fails: result as tail-lost
fails: traffic as result-first
fails: memory as result-first
"""
# %% chunks
def chunk_bounds(numel, world_size):
    size = numel // world_size
    return [(i * size, (i + 1) * size) for i in range(world_size)]
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    result = tensor.clone()
    flat = result.view(-1)
    chunks = [flat[a:b] for a, b in chunk_bounds(flat.numel(), world)]
    for step in range(world - 1):
        mine = chunks[(rank - step - 1) % world]
        arriving = torch.empty_like(mine)
        sending = dist.isend(chunks[(rank - step) % world], (rank + 1) % world)
        dist.recv(arriving, (rank - 1) % world)
        sending.wait()
        mine += arriving
    for step in range(world - 1):
        sending = dist.isend(chunks[(rank - step + 1) % world], (rank + 1) % world)
        dist.recv(chunks[(rank - step) % world], (rank - 1) % world)
        sending.wait()
    return result
