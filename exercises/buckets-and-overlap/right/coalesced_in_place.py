"""No flat tensor of its own: one coalesced all-reduce works on the gradients where they are.
"""
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.buckets = make_buckets(model, cap_bytes)
        self.ready, self.works = set(), []
        for bucket in self.buckets:
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(self.arrived)

    def arrived(self, parameter):
        self.ready.add(parameter)
        while len(self.works) < len(self.buckets) and self.ready.issuperset(self.buckets[len(self.works)]):
            self.launch()

    def launch(self):
        bucket = self.buckets[len(self.works)]
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.works.append(dist.all_reduce_coalesced([p.grad for p in bucket], async_op=True))

    def finish(self):
        while len(self.works) < len(self.buckets):
            self.launch()
        for bucket, work in zip(self.buckets, self.works):
            work.wait()
            for parameter in bucket:
                parameter.grad /= dist.get_world_size()
        self.ready, self.works = set(), []
