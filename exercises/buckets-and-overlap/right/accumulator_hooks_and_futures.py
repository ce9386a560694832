"""Hooks on the accumulator nodes of autograd, as older code has them; a process group of its own; the division is a continuation of the future.
"""
# %% reducer
class Reducer:
    def __init__(self, model, cap_bytes):
        self.group = dist.new_group()
        self.buckets = make_buckets(model, cap_bytes)
        self.nodes = []
        self.begin()
        for number, bucket in enumerate(self.buckets):
            for parameter in bucket:
                node = parameter.view_as(parameter).grad_fn.next_functions[0][0]
                node.register_hook(lambda *_, number=number: self.arrived(number))
                self.nodes.append(node)  # or it is gone, and its hook with it

    def begin(self):
        self.missing = [len(bucket) for bucket in self.buckets]
        self.next, self.futures = 0, []

    def arrived(self, number):
        self.missing[number] -= 1
        while self.next < len(self.buckets) and self.missing[self.next] == 0:
            self.launch()

    def launch(self):
        bucket = self.buckets[self.next]
        flat = torch.zeros(sum(p.numel() for p in bucket), dtype=bucket[0].dtype)
        for piece, parameter in zip(flat.split([p.numel() for p in bucket]), bucket):
            if parameter.grad is not None:
                piece.copy_(parameter.grad.flatten())
        future = dist.all_reduce(flat, group=self.group, async_op=True).get_future()
        self.futures.append(future.then(lambda done, flat=flat: flat.div_(dist.get_world_size())))
        self.next += 1

    def finish(self):
        while self.next < len(self.buckets):
            self.launch()
        for bucket, future in zip(self.buckets, self.futures):
            flat, start = future.wait(), 0
            for parameter in bucket:
                parameter.grad = flat[start : start + parameter.numel()].view(parameter.shape).clone()
                start += parameter.numel()
        self.begin()
