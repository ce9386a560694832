"""From the outside in: the model first, then its blocks.

fails: start as root-first
fails: training as root-first
fails: uneven as root-first
fails: clipping as root-first
fails: precision as root-first
fails: traffic as root-first
fails: memory as root-first
fails: checkpoint as root-first
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    fully_shard(model, mp_policy=policy)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    return make_optimizer(model.parameters())
