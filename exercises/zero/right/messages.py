"""Collectives of its own making: all-to-all and a sum for the reduce-scatter, messages round the ring for the all-gather;
the clipping factor goes into the moments, and the gradient itself is not scaled."""
# %% shards
def shard_bounds(numel, world_size):
    small, rest = divmod(numel, world_size)
    stops = [small * (i + 1) + min(i + 1, rest) for i in range(world_size)]
    return list(zip([0, *stops[:-1]], stops))
# %% optimizer
class ShardedAdamW:
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_norm=None):
        self.params, self.lr, self.betas, self.eps, self.decay, self.max_norm = params, lr, betas, eps, weight_decay, max_norm
        self.bounds = shard_bounds(params.numel(), dist.get_world_size())
        self.part = slice(*self.bounds[dist.get_rank()])
        self.moments = torch.zeros(2, self.part.stop - self.part.start, dtype=params.dtype)
        self.b1t = self.b2t = 1.0

    def step(self, grad):
        rank, world = dist.get_rank(), dist.get_world_size()
        length = self.part.stop - self.part.start
        arrived = torch.empty(world * length, dtype=grad.dtype)
        dist.all_to_all_single(arrived, grad, [length] * world, [b - a for a, b in self.bounds])
        g = arrived.view(world, length).mean(0)
        factor = 1.0
        if self.max_norm is not None:
            squares = [torch.zeros(1, dtype=g.dtype) for _ in range(world)]
            dist.all_gather(squares, g.dot(g).reshape(1))
            norm = math.sqrt(sum(float(s) for s in squares))
            factor = min(1.0, self.max_norm / (norm + 1e-6))
        b1, b2 = self.betas
        m, v = self.moments
        m.copy_(b1 * m + (1 - b1) * factor * g)
        v.copy_(b2 * v + (1 - b2) * factor**2 * g * g)
        self.b1t, self.b2t = self.b1t * b1, self.b2t * b2
        p = self.params[self.part]
        p.copy_(p * (1 - self.lr * self.decay) - self.lr * (m / (1 - self.b1t)) / ((v / (1 - self.b2t)).sqrt() + self.eps))
        for hop in range(world - 1):
            out, into = self.bounds[(rank - hop) % world], self.bounds[(rank - hop - 1) % world]
            sending = dist.isend(self.params[slice(*out)], (rank + 1) % world)
            dist.recv(self.params[slice(*into)], (rank - 1) % world)
            sending.wait()
