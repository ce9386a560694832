"""Saves, and never says that there was something to load.

fails: curve as starts-anew
fails: interrupted as lost-checkpoint
fails: requeued as result-first
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
        path = os.path.join(folder, "checkpoint.pt")
        torch.save(state, path + ".part")
        os.replace(path + ".part", path)
    dist.barrier()


def load(training, folder: str) -> bool:
    """Put the newest state in `folder` into the training; False when there is none."""
    path = os.path.join(folder, "latest.pt")
    if not os.path.exists(path):
        return False
    state = torch.load(path, weights_only=True)
    for part in ("model", "optimizer", "scheduler", "order"):
        getattr(training, part).load_state_dict(state[part])
    training.generator.set_state(state["generator"])
    training.step = state["step"]
    return True
