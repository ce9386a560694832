"""The model is cast to bfloat16 and then sharded: no float32 weights are left anywhere.

fails: start as master-weights-lost
fails: training as master-weights-lost
fails: uneven as master-weights-lost
fails: clipping as master-weights-lost
fails: precision as master-weights-lost
fails: checkpoint as wrong-dtype
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    model.to(torch.bfloat16)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
