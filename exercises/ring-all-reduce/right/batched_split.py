"""tensor_split for the chunks and batch_isend_irecv for the messages."""
# %% chunks
def chunk_bounds(numel, world_size):
    edges = [0]
    for piece in torch.arange(numel).tensor_split(world_size):
        edges.append(edges[-1] + len(piece))
    return list(zip(edges[:-1], edges[1:]))
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    out = tensor.detach().clone().contiguous()
    pieces = list(out.view(-1).tensor_split(world))

    def shift(send_index, buffer):
        ops = [
            dist.P2POp(dist.isend, pieces[send_index % world], (rank + 1) % world),
            dist.P2POp(dist.irecv, buffer, (rank - 1) % world),
        ]
        for work in dist.batch_isend_irecv(ops):
            work.wait()

    for step in range(world - 1):
        target = pieces[(rank - step - 1) % world]
        buffer = torch.empty_like(target)
        shift(rank - step, buffer)
        target += buffer
    for step in range(world - 1):
        shift(rank + 1 - step, pieces[(rank - step) % world])
    return out
