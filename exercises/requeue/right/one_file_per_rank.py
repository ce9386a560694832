"""Every rank writes a file of its own, and loads that of rank 0; a marker says which step is whole.
"""
# %% checkpoint
def save(training, folder: str) -> None:
    state = {
        "model": training.model.state_dict(), "optimizer": training.optimizer.state_dict(), "step": training.step,
        "scheduler": training.scheduler.state_dict(), "order": training.order.state_dict(), "generator": training.generator.get_state(),
    }
    name = f"step{training.step}-rank{dist.get_rank()}.pt"
    torch.save(state, os.path.join(folder, name))
    dist.barrier()
    if dist.get_rank() == 0:
        with open(os.path.join(folder, "latest.part"), "w") as file:
            file.write(f"step{training.step}")
        os.replace(os.path.join(folder, "latest.part"), os.path.join(folder, "latest"))
    dist.barrier()


def load(training, folder: str) -> bool:
    try:
        with open(os.path.join(folder, "latest")) as file:
            step = file.read()
    except FileNotFoundError:
        return False
    state = torch.load(os.path.join(folder, f"{step}-rank0.pt"), weights_only=True)
    for part in ("model", "optimizer", "scheduler", "order"):
        getattr(training, part).load_state_dict(state[part])
    training.generator.set_state(state["generator"])
    training.step = state["step"]
    return True
