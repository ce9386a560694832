"""Each rank shards the model it was born with: fully_shard is trusted to make the ranks equal, as DDP does.

fails: start as own-start
fails: training as own-start
fails: uneven as own-start
fails: clipping as own-start
fails: precision as result-first
fails: checkpoint as own-start
"""
# %% prepare
def prepare(model, make_optimizer):
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
