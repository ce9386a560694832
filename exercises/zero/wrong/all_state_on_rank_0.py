"""Rank 0 keeps the moments of all parameters, makes the step and broadcasts the result. The others keep nothing, and
rank 0 has not gained a byte.

fails: memory as one-rank-holds-all
fails: traffic as one-rank-updates
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
        if self.rank == 0:
            self.m, self.v = torch.zeros_like(params), torch.zeros_like(params)
        self.steps = 0

    def step(self, grad: torch.Tensor) -> None:
        dist.reduce(grad, 0)
        if self.rank == 0:
            self.update(grad / self.world)
        dist.broadcast(self.params, 0)

    def update(self, g):
        if self.max_norm is not None:
            squares = g.square().sum()
            g *= min(1.0, self.max_norm / (float(squares) ** 0.5 + 1e-6))

        self.steps += 1
        beta1, beta2 = self.betas
        self.m.mul_(beta1).add_(g, alpha=1 - beta1)
        self.v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        shard = self.params
        shard *= 1 - self.lr * self.weight_decay
        root = (self.v / (1 - beta2**self.steps)).sqrt_().add_(self.eps)
        shard.addcdiv_(self.m, root, value=-self.lr / (1 - beta1**self.steps))

