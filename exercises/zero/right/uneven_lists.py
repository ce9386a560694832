"""Balanced shards without padding: reduce_scatter with a list of uneven parts, and every owner broadcasts its shard."""
# %% shards
def shard_bounds(numel, world_size):
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
# %% optimizer
class ShardedAdamW:
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_norm=None):
        sizes = [stop - start for start, stop in shard_bounds(params.numel(), dist.get_world_size())]
        self.shards = list(params.split(sizes))
        self.sizes, self.mine = sizes, self.shards[dist.get_rank()]
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.mine), torch.zeros_like(self.mine)
        self.hyper, self.max_norm, self.t = (lr, *betas, eps, weight_decay), max_norm, 0

    def step(self, grad):
        lr, b1, b2, eps, decay = self.hyper
        g = torch.empty_like(self.mine)
        dist.reduce_scatter(g, list(grad.split(self.sizes)))
        g.div_(dist.get_world_size())
        if self.max_norm is not None:
            total = torch.linalg.vector_norm(g, dtype=torch.float64) ** 2
            dist.all_reduce(total)
            g.mul_((self.max_norm / (total.sqrt() + 1e-6)).clamp(max=1.0).to(g.dtype))
        self.t += 1
        self.mine.mul_(1 - lr * decay)
        self.exp_avg.lerp_(g, 1 - b1)
        self.exp_avg_sq.lerp_(g * g, 1 - b2)
        step_size = lr * math.sqrt(1 - b2**self.t) / (1 - b1**self.t)
        denominator = self.exp_avg_sq.sqrt() + eps * math.sqrt(1 - b2**self.t)
        self.mine.sub_(step_size * self.exp_avg / denominator)
        for owner, shard in enumerate(self.shards):
            if shard.numel():
                dist.broadcast(shard, owner)
