"""Each module with parameters of its own is a unit.

fails: traffic as too-many-units
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        for module in block.modules():
            if list(module.parameters(recurse=False)):
                fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
