"""How long to wait for a job on a machine that may be busy with other things.

Seconds in which a process of the cluster computes, or would if it had a core, are the machine's doing. What a job is allowed is
counted in the other ones, in which nothing of the cluster had anything to do: a job that hangs uses them up as fast on a busy
machine as on an idle one, and a job that is only slow keeps most of them.
"""

from __future__ import annotations

import time

from aboard.cluster.processes import seconds_wanted

LOOK_S = 0.25
AT_WORK = 0.2  # of a second: who polls for something wants less
MOST = 4  # times as long in all, for those who never stop computing


class Patience:
    """`over()` becomes true once the cluster has been idle for `seconds` in all, or `MOST` times as long has passed."""

    def __init__(self, cluster: str, seconds: float) -> None:
        self._cluster, self._left = cluster, seconds
        self._looked = time.monotonic()
        self._end = self._looked + MOST * seconds
        self._wanted = seconds_wanted(cluster) if seconds > LOOK_S else {}

    def over(self) -> bool:
        now = time.monotonic()
        since = now - self._looked
        if since < min(LOOK_S, self._left):
            return False
        wanted = seconds_wanted(self._cluster)
        work = sum(seconds - self._wanted.get(pid, 0.0) for pid, seconds in wanted.items())
        self._looked, self._wanted = now, wanted
        if work < AT_WORK * since:
            self._left -= since
        return self._left <= 0 or now > self._end
