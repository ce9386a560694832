"""Frozen parameters are in the buckets too. Their hooks never fire, so a bucket with one of them is never full in time.

fails: buckets as frozen-in-bucket
fails: collectives as too-much-traffic
fails: overlap as nothing-early
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, size = [], 0
    for parameter in reversed(list(model.parameters())):
        if not buckets or parameter.dtype != buckets[-1][0].dtype or size + parameter.nbytes > cap_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.nbytes
    return buckets
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.buckets = make_buckets(model, cap_bytes)
        self.where = {p: number for number, bucket in enumerate(self.buckets) for p in bucket}
        for parameter in self.where:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self.arrived)
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
                if parameter.requires_grad:
                    parameter.grad = mean.view_as(parameter)
        self.begin()
