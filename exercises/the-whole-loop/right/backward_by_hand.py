"""The whole layer as one function of autograd, its backward pass written out."""
# %% norm
def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` over all ranks, on every rank."""
    x = x.clone()
    dist.all_reduce(x)
    return x


class Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) for inputs [channels, values], with statistics of all ranks."""

    @staticmethod
    def forward(ctx, x, eps):
        count = sum_over_ranks(torch.tensor(float(x.shape[1]), dtype=x.dtype))
        mean = sum_over_ranks(x.sum(1)) / count
        off = x - mean[:, None]
        variance = sum_over_ranks((off * off).sum(1)) / count
        scale = 1 / torch.sqrt(variance + eps)
        normal = off * scale[:, None]
        ctx.save_for_backward(normal, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normal, mean, variance, count

    @staticmethod
    def backward(ctx, gradient, *_):
        normal, scale, count = ctx.saved_tensors
        sums = sum_over_ranks(torch.stack([gradient.sum(1), (gradient * normal).sum(1)])) / count
        return scale[:, None] * (gradient - sums[0][:, None] - normal * sums[1][:, None]), None


class SyncBatchNorm(torch.nn.BatchNorm1d):
    """BatchNorm1d with the statistics of all ranks' rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels first, and back again at the end."""
        if not self.training:
            return super().forward(x)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        flat = x.movedim(1, 0)
        normal, mean, variance, count = Normalise.apply(flat.reshape(len(flat), -1).to(dtype), self.eps)
        with torch.no_grad():
            share, kind = self.momentum, self.running_mean.dtype
            self.num_batches_tracked += 1
            self.running_mean.copy_((1 - share) * self.running_mean + share * mean.to(kind))
            self.running_var.copy_((1 - share) * self.running_var + share * (variance * count / (count - 1)).to(kind))
        normal = normal * self.weight[:, None] + self.bias[:, None]
        return normal.to(x.dtype).reshape(flat.shape).movedim(0, 1)
