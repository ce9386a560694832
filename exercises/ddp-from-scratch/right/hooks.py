"""A hook on every parameter starts its all-reduce while backward goes on; average_gradients waits. All ranks launch in the same
order, whatever order the gradients come in, and parameters that took no part follow at the end."""
# %% broadcast
class Reducer:
    def __init__(self, model):
        self.order = [p for p in reversed(list(model.parameters())) if p.requires_grad]
        self.ready, self.launched = set(), []
        for parameter in self.order:
            parameter.register_post_accumulate_grad_hook(self.arrived)

    def arrived(self, parameter):
        self.ready.add(id(parameter))
        while len(self.launched) < len(self.order) and id(self.order[len(self.launched)]) in self.ready:
            self.launch()

    def launch(self):
        parameter = self.order[len(self.launched)]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad /= dist.get_world_size()
        self.launched.append(dist.all_reduce(parameter.grad, async_op=True))

    def finish(self):
        while len(self.launched) < len(self.order):
            self.launch()
        for work in self.launched:
            work.wait()
        self.ready, self.launched = set(), []


def broadcast_model(model):
    for tensor in [*model.parameters(), *model.buffers()]:
        dist.broadcast(tensor.detach(), 0)
    model.reducer = Reducer(model)
# %% average
def average_gradients(model):
    model.reducer.finish()
# %% step
def train_step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    average_gradients(model)
    optimizer.step()
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
