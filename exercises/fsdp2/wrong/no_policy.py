"""fully_shard without a policy: gathers and computes in float32.

fails: precision as computed-in-float32
fails: traffic as computed-in-float32
fails: memory as computed-in-float32
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    return make_optimizer(model.parameters())
