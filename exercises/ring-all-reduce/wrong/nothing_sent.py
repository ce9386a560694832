"""Returns a copy of its own tensor: the ring is still to be turned.

fails: result as nothing-arrived
fails: traffic as result-first
fails: memory as result-first
"""
# %% ring
def ring_all_reduce(tensor):
    return tensor.clone()
