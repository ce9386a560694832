"""Every bucket leaves when it is full, in the order in which they get full on this rank.

fails: order as order-differs
"""
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.buckets = make_buckets(model, cap_bytes)
        self.where = {p: number for number, bucket in enumerate(self.buckets) for p in bucket}
        for parameter in self.where:
            parameter.register_post_accumulate_grad_hook(self.arrived)
        self.begin()

    def begin(self):
        self.missing = [len(bucket) for bucket in self.buckets]
        self.launched = {}

    def arrived(self, parameter):
        number = self.where[parameter]
        self.missing[number] -= 1
        if self.missing[number] == 0:
            self.launch(number)

    def launch(self, number):
        bucket = self.buckets[number]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        self.launched[number] = (flat, dist.all_reduce(flat, async_op=True))

    def finish(self):
        for number, bucket in enumerate(self.buckets):
            if number not in self.launched:
                self.launch(number)
        for number, (flat, work) in self.launched.items():
            work.wait()
            flat /= dist.get_world_size()
            bucket = self.buckets[number]
            for parameter, mean in zip(bucket, flat.split([p.numel() for p in bucket])):
                parameter.grad = mean.view_as(parameter)
        self.begin()
