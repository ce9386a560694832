"""Every rank sends first and receives afterwards. A send waits until the other side receives, and the other side is
sending.

fails: result as deadlock
fails: traffic as deadlock
fails: memory as deadlock
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
    for step in range(world - 1):
        mine = chunks[(rank - step - 1) % world]
        arriving = torch.empty_like(mine)
        dist.send(chunks[(rank - step) % world], (rank + 1) % world)
        dist.recv(arriving, (rank - 1) % world)
        mine += arriving
    for step in range(world - 1):
        dist.send(chunks[(rank - step + 1) % world], (rank + 1) % world)
        dist.recv(chunks[(rank - step) % world], (rank - 1) % world)
    return result
