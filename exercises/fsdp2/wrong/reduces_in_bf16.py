"""The policy names the dtype of the parameters only, so gradients are reduced in it too.

fails: precision as reduced-in-bfloat16
fails: traffic as reduced-in-bfloat16
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
