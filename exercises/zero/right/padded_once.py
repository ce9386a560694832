"""The shards' length is fixed once; ReduceOp.AVG divides; the padding is made by torch.nn.functional.pad."""
# %% shards
def shard_bounds(numel, world_size):
    size = -(-numel // world_size)
    edges = [min(size * i, numel) for i in range(world_size + 1)]
    return [(edges[i], edges[i + 1]) for i in range(world_size)]
# %% optimizer
class ShardedAdamW:
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_norm=None):
        self.world, self.rank = dist.get_world_size(), dist.get_rank()
        self.size = -(-params.numel() // self.world)
        self.pad = self.size * self.world - params.numel()
        self.params, self.options = params, (lr, betas, eps, weight_decay, max_norm)
        self.state = {"step": 0, "m": params.new_zeros(self.size), "v": params.new_zeros(self.size)}

    def step(self, grad):
        lr, (beta1, beta2), eps, weight_decay, max_norm = self.options
        g = grad.new_empty(self.size)
        dist.reduce_scatter_tensor(g, torch.nn.functional.pad(grad, (0, self.pad)), op=dist.ReduceOp.AVG)
        if max_norm is not None:
            squares = (g * g).sum()
            dist.all_reduce(squares)
            if squares.sqrt() > max_norm:
                g *= max_norm / (squares.sqrt() + 1e-6)
        state = self.state
        state["step"] += 1
        state["m"] += (1 - beta1) * (g - state["m"])
        state["v"] += (1 - beta2) * (g * g - state["v"])
        m = state["m"] / (1 - beta1 ** state["step"])
        v = state["v"] / (1 - beta2 ** state["step"])
        padded = torch.nn.functional.pad(self.params, (0, self.pad))
        mine = padded[self.rank * self.size : (self.rank + 1) * self.size].clone()
        mine = mine - lr * weight_decay * mine - lr * m / (v.sqrt() + eps)
        dist.all_gather_into_tensor(padded, mine)
        self.params[:] = padded[: self.params.numel()]
