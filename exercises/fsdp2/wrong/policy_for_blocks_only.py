"""The policy is given to the blocks and not to the outermost unit.

fails: training as outside-the-policy
fails: clipping as outside-the-policy
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model)
    return make_optimizer(model.parameters())
