"""A file for each step, of which the newest is the checkpoint, and a flag that is gathered.
"""
# %% checkpoint
def save(training, folder: str) -> None:
    if dist.get_rank() == 0:
        state = {name: getattr(training, name).state_dict() for name in ("model", "optimizer", "scheduler", "order")}
        state |= {"generator": training.generator.get_state(), "step": training.step}
        torch.save(state, os.path.join(folder, "unfinished"))
        os.rename(os.path.join(folder, "unfinished"), os.path.join(folder, f"{training.step:08d}.pt"))
    dist.barrier()


def load(training, folder: str) -> bool:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".pt"))
    if not names:
        return False
    state = torch.load(os.path.join(folder, names[-1]), weights_only=True)
    training.generator.set_state(state.pop("generator"))
    training.step = state.pop("step")
    for name, value in state.items():
        getattr(training, name).load_state_dict(value)
    return True
# %% stop
class Stop:
    def __init__(self) -> None:
        self.told = torch.zeros(1)
        signal.signal(signal.SIGTERM, lambda *_: self.told.fill_(1))

    def __call__(self) -> bool:
        flags = [torch.zeros(1) for _ in range(dist.get_world_size())]
        dist.all_gather(flags, self.told)
        return any(flag.item() for flag in flags)
