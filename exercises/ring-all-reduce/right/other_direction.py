"""The ring turns the other way round, the ranks take turns in sending first, and the longer chunks come last."""
# %% chunks
def chunk_bounds(numel, world_size):
    small, rest = divmod(numel, world_size)
    bounds, start = [], 0
    for i in range(world_size):
        stop = start + small + (1 if i >= world_size - rest else 0)
        bounds.append((start, stop))
        start = stop
    return bounds
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    flat = tensor.reshape(-1).clone()
    chunk = [flat[a:b] for a, b in chunk_bounds(flat.numel(), world)]
    towards, behind = (rank - 1) % world, (rank + 1) % world

    def pass_on(out, into):
        coming = dist.irecv(into, behind)
        dist.send(out, towards)
        coming.wait()

    for step in range(1, world):
        buffer = torch.zeros_like(chunk[(rank + step) % world])
        pass_on(chunk[(rank + step - 1) % world], buffer)
        chunk[(rank + step) % world].add_(buffer)
    for step in range(world - 1):
        pass_on(chunk[(rank - 1 + step) % world], chunk[(rank + step) % world])
    return flat.reshape(tensor.shape)
