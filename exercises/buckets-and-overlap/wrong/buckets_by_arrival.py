"""Fills buckets in the order in which gradients come, each rank for itself.

fails: order as order-differs
"""
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.cap_bytes = cap_bytes
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.register_post_accumulate_grad_hook(self.arrived)
        self.begin()

    def begin(self):
        self.waiting, self.size, self.launched, self.seen = [], 0, [], set()

    def arrived(self, parameter):
        self.seen.add(parameter)
        if self.waiting and (self.size + parameter.nbytes > self.cap_bytes or parameter.dtype != self.waiting[0].dtype):
            self.launch()
        self.waiting.append(parameter)
        self.size += parameter.nbytes

    def launch(self):
        flat = torch.cat([p.grad.reshape(-1) for p in self.waiting])
        self.launched.append((self.waiting, flat, dist.all_reduce(flat, async_op=True)))
        self.waiting, self.size = [], 0

    def finish(self):
        for parameter in reversed(self.parameters):
            if parameter not in self.seen:
                parameter.grad = torch.zeros_like(parameter)
                self.arrived(parameter)
        self.launch()
        for bucket, flat, work in self.launched:
            work.wait()
            flat /= dist.get_world_size()
            for parameter, mean in zip(bucket, flat.split([p.numel() for p in bucket])):
                parameter.grad = mean.view_as(parameter)
        self.begin()
