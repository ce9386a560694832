"""Each rank stops when it is told itself.

fails: together as one-rank-stops
"""
# %% stop
class Stop:
    """Whether to stop now: True on every rank after the same step, once any rank has got SIGTERM."""

    def __init__(self) -> None:
        self.told = False
        signal.signal(signal.SIGTERM, self.hear)

    def __call__(self) -> bool:
        return self.told

    def hear(self, signum, frame) -> None:
        self.told = True
