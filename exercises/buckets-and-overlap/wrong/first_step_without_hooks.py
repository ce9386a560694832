"""Registers its hooks at the end of the first step, "when all is known", so in that step everything is sent in finish.

fails: overlap as nothing-early
"""
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.buckets = make_buckets(model, cap_bytes)
        self.where = {p: number for number, bucket in enumerate(self.buckets) for p in bucket}
        self.hooks = None
        self.begin()

    def begin(self):
        self.missing = [len(bucket) for bucket in self.buckets]
        self.launched = []

    def arrived(self, parameter):
        self.missing[self.where[parameter]] -= 1
        while len(self.launched) < len(self.buckets) and self.missing[len(self.launched)] == 0:
            self.launch()

    def launch(self):
        bucket = self.buckets[len(self.launched)]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        self.launched.append((flat, dist.all_reduce(flat, async_op=True)))

    def finish(self):
        while len(self.launched) < len(self.buckets):
            self.launch()
        for bucket, (flat, work) in zip(self.buckets, self.launched):
            work.wait()
            flat /= dist.get_world_size()
            for parameter, mean in zip(bucket, flat.split([p.numel() for p in bucket])):
                parameter.grad = mean.view_as(parameter)
        if self.hooks is None:
            self.hooks = [p.register_post_accumulate_grad_hook(self.arrived) for p in self.where]
        self.begin()
