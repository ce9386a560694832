"""One fixed seed, whatever the plan says.

fails: start as start-ignores-seed
"""
# %% start
def new_model(make, seed):
    torch.manual_seed(42)
    return make()
