"""The blocks are units; embedding, last norm and output layer belong to nobody.

fails: start as root-not-sharded
fails: training as outside-the-policy
fails: uneven as root-not-sharded
fails: clipping as outside-the-policy
fails: precision as root-not-sharded
fails: traffic as root-not-sharded
fails: memory as root-not-sharded
fails: checkpoint as plain-tensor
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    return make_optimizer(model.parameters())
