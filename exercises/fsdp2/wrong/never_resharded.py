"""Nothing is freed after the forward pass, to save a gather.

fails: traffic as never-resharded
fails: memory as never-resharded
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
