"""All ranks get the model of rank 0, which nobody has seeded.

fails: start as start-not-from-seed
fails: curve as result-first
"""
# %% start
def new_model(make, seed):
    model = make()
    for parameter in model.parameters():
        dist.broadcast(parameter.data, src=0)
    return model
