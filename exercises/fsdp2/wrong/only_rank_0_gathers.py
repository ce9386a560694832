"""Rank 0 alone asks for the whole tensors, which takes all ranks.

fails: checkpoint as deadlock
"""
# %% checkpoint
def full_state(model):
    if dist.get_rank() > 0:
        return {}
    return {name: value.full_tensor().cpu() for name, value in model.state_dict().items()}
