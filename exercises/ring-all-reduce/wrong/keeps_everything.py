"""Collect the tensors of all ranks, then add them up: memory grows with the number of ranks, and so does the traffic.

fails: traffic as whole-tensor-travels
fails: memory as too-much-memory
"""
# %% chunks
def chunk_bounds(numel, world_size):
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    everything = [torch.empty_like(tensor) for _ in range(world)]
    everything[rank].copy_(tensor)
    for step in range(world - 1):
        sending = dist.isend(everything[(rank - step) % world], (rank + 1) % world)
        dist.recv(everything[(rank - step - 1) % world], (rank - 1) % world)
        sending.wait()
    total = everything[0]
    for other in everything[1:]:
        total = total + other
    return total
