"""Adds the mean to the gradient that is there.

fails: result as added-to-own
fails: order as result-first
fails: collectives as result-first
fails: overlap as result-first
fails: memory as result-first
"""
# %% reducer
class Reducer:
    """Averages the gradients of `model` over the ranks, bucket by bucket, while backward goes on."""

    def __init__(self, model: torch.nn.Module, cap_bytes: int) -> None:
        """Make the buckets and register the hooks."""
        self.buckets = make_buckets(model, cap_bytes)
        self.where = {p: number for number, bucket in enumerate(self.buckets) for p in bucket}
        for parameter in self.where:
            parameter.register_post_accumulate_grad_hook(self.arrived)
        self.begin()

    def begin(self) -> None:
        """Ready for the next backward pass."""
        self.missing = [len(bucket) for bucket in self.buckets]
        self.launched: list[tuple[torch.Tensor, dist.Work]] = []

    def arrived(self, parameter: torch.nn.Parameter) -> None:
        """The hook: count, and launch every bucket whose turn it is and that is full."""
        self.missing[self.where[parameter]] -= 1
        while len(self.launched) < len(self.buckets) and self.missing[len(self.launched)] == 0:
            self.launch()

    def launch(self) -> None:
        """Send the next bucket; absent gradients are zeros."""
        bucket = self.buckets[len(self.launched)]
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([piece.reshape(-1) for piece in pieces])
        self.launched.append((flat, dist.all_reduce(flat, async_op=True)))

    def finish(self) -> None:
        """Send what has not left yet, wait for all, and put the means into `.grad`."""
        while len(self.launched) < len(self.buckets):
            self.launch()
        for bucket, (flat, work) in zip(self.buckets, self.launched, strict=True):
            work.wait()
            flat /= dist.get_world_size()
            for parameter, mean in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad += mean.view_as(parameter)
        self.begin()
