"""The whole model is one unit. The curve is right, and the peak is that of an unsharded model.

fails: traffic as root-only
fails: memory as root-only
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
