"""The output layer gets a weight of its own, so that each module has its parameters to itself.

fails: start as tie-broken
fails: training as tie-broken
fails: clipping as tie-broken
"""
# %% prepare
def prepare(model, make_optimizer):
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    if hasattr(model, "unembed"):
        model.unembed.weight = nn.Parameter(model.embed.weight.detach().clone())
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return make_optimizer(model.parameters())
