"""Sends when a size is reached, like a buffer that is written when full. What is left over at the end has not reached it.

fails: result as bucket-not-sent
fails: order as result-first
fails: collectives as result-first
fails: overlap as result-first
fails: memory as result-first
"""
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.cap_bytes = cap_bytes
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self.arrived)
        self.waiting, self.size, self.launched = [], 0, []

    def arrived(self, parameter):
        if self.waiting and (self.size + parameter.nbytes > self.cap_bytes or parameter.dtype != self.waiting[0].dtype):
            flat = torch.cat([p.grad.reshape(-1) for p in self.waiting])
            self.launched.append((self.waiting, flat, dist.all_reduce(flat, async_op=True)))
            self.waiting, self.size = [], 0
        self.waiting.append(parameter)
        self.size += parameter.nbytes

    def finish(self):
        for bucket, flat, work in self.launched:
            work.wait()
            flat /= dist.get_world_size()
            for parameter, mean in zip(bucket, flat.split([p.numel() for p in bucket])):
                parameter.grad = mean.view_as(parameter)
        self.waiting, self.size, self.launched = [], 0, []
