"""Waits for USR1, which goes to the script only.

fails: together as no-handler
fails: requeued as nothing-saved
"""
# %% stop
class Stop:
    """Whether to stop now: True on every rank after the same step, once any rank has got SIGTERM."""

    def __init__(self) -> None:
        self.told = False
        signal.signal(signal.SIGUSR1, self.hear)

    def __call__(self) -> bool:
        flag = torch.tensor(float(self.told))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return flag.item() > 0

    def hear(self, signum, frame) -> None:
        self.told = True
