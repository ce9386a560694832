"""Walks over the parameters, where a shared one has one name; a state dict has both.

fails: checkpoint as other-names
"""
# %% checkpoint
def full_state(model):
    state = {}
    for name, value in model.named_parameters():
        whole = value.full_tensor()
        if dist.get_rank() == 0:
            state[name] = whole.cpu()
    return state
