"""The buckets are allocated once, and `.grad` becomes a view into them, as with gradient_as_bucket_view. Divides before sending.
"""
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.world = dist.get_world_size()
        self.place = {}
        self.buckets = []
        for number, bucket in enumerate(make_buckets(model, cap_bytes)):
            flat = torch.zeros(sum(p.numel() for p in bucket), dtype=bucket[0].dtype)
            views = [view.view_as(p) for view, p in zip(flat.split([p.numel() for p in bucket]), bucket)]
            self.buckets.append((flat, bucket, views))
            for parameter, view in zip(bucket, views):
                self.place[parameter] = (number, view)
                parameter.register_post_accumulate_grad_hook(self.arrived)
        self.begin()

    def begin(self):
        self.ready = [set() for _ in self.buckets]
        self.works = []

    def arrived(self, parameter):
        number, view = self.place[parameter]
        if parameter.grad is not view:
            view.copy_(parameter.grad)
            parameter.grad = view
        view /= self.world
        self.ready[number].add(parameter)
        while len(self.works) < len(self.buckets) and len(self.ready[len(self.works)]) == len(self.buckets[len(self.works)][1]):
            self.works.append(dist.all_reduce(self.buckets[len(self.works)][0], async_op=True))

    def finish(self):
        for number in range(len(self.works), len(self.buckets)):
            flat, bucket, views = self.buckets[number]
            for parameter, view in zip(bucket, views):
                if parameter not in self.ready[number]:
                    view.zero_()
                    parameter.grad = view
            self.works.append(dist.all_reduce(flat, async_op=True))
        for work in self.works:
            work.wait()
        self.begin()
