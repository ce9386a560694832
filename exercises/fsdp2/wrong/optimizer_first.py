"""The optimizer is built where the script for one process has it: before the parameters are replaced.

fails: start as optimizer-before-sharding
fails: training as optimizer-before-sharding
fails: uneven as optimizer-before-sharding
fails: clipping as optimizer-before-sharding
fails: precision as result-first
fails: traffic as result-first
fails: memory as result-first
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    optimizer = make_optimizer(model.parameters())
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return optimizer
