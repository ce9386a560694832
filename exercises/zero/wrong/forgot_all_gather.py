"""Each rank updates its own shard and keeps the result to itself.

fails: update as not-gathered
fails: clipping as not-gathered
fails: memory as result-first
fails: traffic as result-first
"""
# %% shards
def shard_bounds(numel: int, world_size: int) -> list[tuple[int, int]]:
    size = math.ceil(numel / world_size)
    return [(min(rank * size, numel), min((rank + 1) * size, numel)) for rank in range(world_size)]
# %% optimizer
class ShardedAdamW:
    def __init__(
        self, params: torch.Tensor, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01, max_norm: float | None = None,
    ) -> None:
        self.params, self.lr, self.betas, self.eps = params, lr, betas, eps
        self.weight_decay, self.max_norm = weight_decay, max_norm
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.start, self.stop = shard_bounds(params.numel(), self.world)[self.rank]
        self.m = torch.zeros(self.stop - self.start, dtype=params.dtype)
        self.v = torch.zeros(self.stop - self.start, dtype=params.dtype)
        self.steps = 0

    def step(self, grad: torch.Tensor) -> None:
        numel, size = self.params.numel(), math.ceil(self.params.numel() / self.world)
        padded = torch.zeros(size * self.world, dtype=grad.dtype)
        padded[:numel] = grad
        g = torch.empty(size, dtype=grad.dtype)
        dist.reduce_scatter_tensor(g, padded)
        g /= self.world  # the padding stays zero, so it adds nothing to the norm
        if self.max_norm is not None:
            squares = g.square().sum()
            dist.all_reduce(squares)
            g *= min(1.0, self.max_norm / (float(squares) ** 0.5 + 1e-6))
        g = g[: self.stop - self.start]

        self.steps += 1
        beta1, beta2 = self.betas
        self.m.mul_(beta1).add_(g, alpha=1 - beta1)
        self.v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        shard = self.params[self.start : self.stop]
        shard *= 1 - self.lr * self.weight_decay
        root = (self.v / (1 - beta2**self.steps)).sqrt_().add_(self.eps)
        shard.addcdiv_(self.m, root, value=-self.lr / (1 - beta1**self.steps))

