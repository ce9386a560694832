"""The whole tensor goes round the ring, N−1 times: right numbers, N/2 times the bytes.

fails: traffic as whole-tensor-travels
fails: memory as too-much-memory
"""
# %% chunks
def chunk_bounds(numel, world_size):
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
# %% ring
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    result, travelling = tensor.clone(), tensor.clone()
    for _ in range(world - 1):
        arriving = torch.empty_like(travelling)
        sending = dist.isend(travelling, (rank + 1) % world)
        dist.recv(arriving, (rank - 1) % world)
        sending.wait()
        result += arriving
        travelling = arriving
        dist.barrier()
    return result
