"""Writes a file for each step, and then writes its name over the name in "latest".

fails: interrupted as broken-checkpoint
"""
# %% checkpoint
def save(training, folder: str) -> None:
    """Write all of the training's state into `folder`. Whenever a process ends in here, what `load` finds is whole."""
    if dist.get_rank() == 0:
        state = {
            "model": training.model.state_dict(),
            "optimizer": training.optimizer.state_dict(),
            "scheduler": training.scheduler.state_dict(),
            "order": training.order.state_dict(),
            "generator": training.generator.get_state(),
            "step": training.step,
        }
        path = os.path.join(folder, f"step-{training.step}.pt")
        torch.save(state, path + ".part")
        os.replace(path + ".part", path)
        with open(os.path.join(folder, "latest"), "w") as file:
            file.write(os.path.basename(path))
    dist.barrier()


def load(training, folder: str) -> bool:
    """Put the newest state in `folder` into the training; False when there is none."""
    if not os.path.exists(os.path.join(folder, "latest")):
        return False
    with open(os.path.join(folder, "latest")) as file:
        path = os.path.join(folder, file.read())
    state = torch.load(path, weights_only=True)
    for part in ("model", "optimizer", "scheduler", "order"):
        getattr(training, part).load_state_dict(state[part])
    training.generator.set_state(state["generator"])
    training.step = state["step"]
    return True
