"""Keeps one bucket open for each dtype, as DistributedDataParallel does, and gives each bucket a clock: a bucket leaves when those before it have.
"""
# %% buckets
def make_buckets(model, cap_bytes):
    buckets, open_ones = [], {}
    for parameter in list(model.parameters())[::-1]:
        if not parameter.requires_grad:
            continue
        bucket = open_ones.get(parameter.dtype)
        if bucket is None or sum(p.numel() * p.element_size() for p in bucket) + parameter.nbytes > cap_bytes:
            bucket = open_ones[parameter.dtype] = []
            buckets.append(bucket)
        bucket.append(parameter)
    return buckets
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.buckets = make_buckets(model, cap_bytes)
        self.arrivals, self.works, self.sent = [0] * len(self.buckets), [], []
        for number, bucket in enumerate(self.buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(self.hook_for(number))

    def hook_for(self, number):
        def hook(parameter):
            self.arrivals[number] += 1
            self.go_on(lambda k: self.arrivals[k] == len(self.buckets[k]))

        return hook

    def go_on(self, may_leave):
        while (k := len(self.works)) < len(self.buckets) and may_leave(k):
            grads = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self.buckets[k]]
            self.sent.append(torch.nn.utils.parameters_to_vector(grads))
            self.works.append(dist.all_reduce(self.sent[k], async_op=True))

    def finish(self):
        self.go_on(lambda k: True)
        while self.works:
            self.works.pop().wait()
        with torch.no_grad():
            for bucket, flat in zip(self.buckets, self.sent):
                for parameter, mean in zip(bucket, (flat / dist.get_world_size()).split([p.numel() for p in bucket])):
                    if parameter.grad is None:
                        parameter.grad = torch.empty_like(parameter)
                    parameter.grad.copy_(mean.reshape(parameter.shape))
        self.arrivals, self.sent = [0] * len(self.buckets), []
