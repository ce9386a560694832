"""dist.all_reduce where autograd should see the sum.

fails: gradients as own-sums-only
fails: loop as not-together
fails: talk as result-first
"""
# %% norm
def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` over all ranks, on every rank, as an operation that autograd can go back through."""

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x = x.clone()
            dist.all_reduce(x)
            return x

        @staticmethod
        def backward(ctx, gradient):  # x of this rank is in the sum of every rank
            return Sum.forward(ctx, gradient)

    x = x.clone()
    dist.all_reduce(x)
    return x


class SyncBatchNorm(torch.nn.BatchNorm1d):
    """BatchNorm1d with the statistics of all ranks' rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x`, [rows, channels] or [rows, channels, length]; the result has the same shape and dtype."""
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.dim()) if d != 1]

        def along(channels):  # one value per channel, to compute with x
            return channels.reshape([1, -1] + [1] * (x.dim() - 2))

        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        here = wide.new_full((1,), x.numel() / x.shape[1])
        *sums, count = sum_over_ranks(torch.cat([wide.sum(dims), here])).split([x.shape[1], 1])
        mean = sums[0] / count
        off = wide - along(mean)
        variance = sum_over_ranks(off.square().sum(dims)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        normal = off * along((variance + self.eps).rsqrt())
        return (normal * along(self.weight) + along(self.bias)).to(x.dtype)
