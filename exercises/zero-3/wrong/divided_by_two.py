"""Divides by two, whatever the number of ranks.

fails: training as divided-by-two
fails: clipping as wrong-norm
fails: traffic as result-first
fails: memory as result-first
"""
# %% zero3
class Zero3:
    """Trains units whose parameters, gradients and momentum are sharded over the ranks of the default group."""

    def __init__(self, units: list, start, lr: float, momentum: float, max_norm: float = math.inf) -> None:
        self.units, self.lr, self.momentum, self.max_norm = units, lr, momentum, max_norm
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.sizes, self.shards = [], []
        for i in range(len(units)):
            whole = start(i)
            self.sizes.append(len(whole))
            self.shards.append(self.pad(whole).chunk(self.world)[self.rank].clone())
        self.velocity = [torch.zeros_like(shard) for shard in self.shards]

    def pad(self, whole):
        size = math.ceil(len(whole) / self.world)
        return torch.cat([whole, whole.new_zeros(size * self.world - len(whole))])

    def full(self, i: int) -> torch.Tensor:
        """The whole parameters of unit `i`, without padding."""
        whole = self.shards[i].new_empty(len(self.shards[i]) * self.world)
        dist.all_gather_into_tensor(whole, self.shards[i])
        return whole[: self.sizes[i]]

    def step(self, x: torch.Tensor, loss) -> float:
        """One step on this rank's batch; the norm of the averaged gradient of all units before clipping."""
        inputs = []
        with torch.no_grad():
            for i, unit in enumerate(self.units):
                inputs.append(x.detach())
                x = unit(self.full(i), x)
        x = x.detach().requires_grad_()
        (upstream,) = torch.autograd.grad(loss(x), x)
        grads = [None] * len(self.units)
        for i in reversed(range(len(self.units))):
            x = inputs.pop().requires_grad_()
            p = self.full(i).requires_grad_()
            g, upstream = torch.autograd.grad(self.units[i](p, x), (p, x), upstream)
            del p
            grads[i] = torch.empty_like(self.shards[i])
            dist.reduce_scatter_tensor(grads[i], self.pad(g))
            grads[i] /= 2
            del g
        squares = sum(g.square().sum() for g in grads)
        dist.all_reduce(squares)
        norm = float(squares) ** 0.5
        factor = min(1.0, self.max_norm / (norm + 1e-6))
        for shard, v, g in zip(self.shards, self.velocity, grads):
            v.mul_(self.momentum).add_(g, alpha=factor)
            shard.sub_(v, alpha=self.lr)
        return norm
