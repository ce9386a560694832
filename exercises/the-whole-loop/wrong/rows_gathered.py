"""Every rank gathers all rows and normalises them all.

fails: talk as activations-sent
"""
# %% norm
def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` over all ranks, on every rank, as an operation that autograd can go back through."""
    return x


class Rows(torch.autograd.Function):
    """All ranks' rows on every rank."""

    @staticmethod
    def forward(ctx, x):
        world = dist.get_world_size()
        counts = [torch.zeros((), dtype=torch.int64) for _ in range(world)]
        dist.all_gather(counts, torch.tensor(len(x)))
        padded = x.new_zeros(int(max(counts)), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.zeros_like(padded) for _ in range(world)]
        dist.all_gather(parts, padded)
        ctx.before, ctx.mine = int(sum(counts[: dist.get_rank()])), len(x)
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient[ctx.before : ctx.before + ctx.mine]


class SyncBatchNorm(torch.nn.BatchNorm1d):
    """BatchNorm1d with the statistics of all ranks' rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x`, [rows, channels] or [rows, channels, length]; the result has the same shape and dtype."""
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.dim()) if d != 1]

        def along(channels):
            return channels.reshape([1, -1] + [1] * (x.dim() - 2))

        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = Rows.apply(wide)
        mean, variance = rows.mean(dims), rows.var(dims, correction=0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(rows.var(dims).to(self.running_var.dtype), self.momentum)
        normal = (wide - along(mean)) * along((variance + self.eps).rsqrt())
        return (normal * along(self.weight) + along(self.bias)).to(x.dtype)
