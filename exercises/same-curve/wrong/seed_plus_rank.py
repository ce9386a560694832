"""Seeds the start with seed + rank, as one is told to do for dropout.

fails: start as start-per-rank
fails: curve as result-first
"""
# %% start
def new_model(make, seed):
    torch.manual_seed(seed + dist.get_rank())
    return make()
