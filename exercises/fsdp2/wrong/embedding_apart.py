"""The embedding is large, so it becomes a unit of its own; its weight is the output layer's too.

fails: start as tie-broken
fails: training as tied-apart
fails: clipping as tied-apart
fails: traffic as root-gathered-twice
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model.embed, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
