"""The grader's end of a folder that a rank is given for one call. Trusted, outside the wall."""

from __future__ import annotations

import socket
from typing import Any

from aboard import wire
from aboard.ranks.call import Kept, RanksFailed
from aboard.ranks.folder import bundle, unbundle
from autograder.errors import SandboxError
from autograder.sandbox.host import Sandbox

PATIENCE_S = 60.0


class GivenFolder:
    """`name` in the room of `rank` with `files`; the room is ended when it has changed `after` times (0: never).

    `path` is where the rank finds it. An attendant looks after it, a process inside the wall that this one alone talks to.
    Raises RanksFailed when there is no place for the files, SandboxError when the attendant does not answer.
    """

    def __init__(self, sandbox: Sandbox, rank: int, name: str, files: dict[str, bytes], after: int) -> None:
        self._attendant, theirs = socket.socketpair()
        self._attendant.settimeout(PATIENCE_S)
        with theirs:
            sandbox.ask("attend", theirs.fileno(), rank=rank)
        given = self._ask({"name": name, "files": bundle(files), "after": after})
        if given["problem"]:
            self.close()
            raise RanksFailed(
                "died",
                f"the files for rank {rank} could not be put into its room ({given['problem']}).",
                rank,
            )
        self.path: str = given["path"]

    def take_back(self) -> Kept:
        """What is in it now, and what the kernel counted; the folder is gone."""
        kept = self._ask({})
        return Kept(**(kept | {"files": unbundle(kept["files"])}))

    def _ask(self, order: dict[str, Any]) -> Any:
        try:
            wire.send(self._attendant, order)
            return wire.receive(self._attendant)
        except (EOFError, OSError, wire.WireError) as error:
            self.close()
            why = f"what looks after a folder there no longer answers ({type(error).__name__})"
            raise SandboxError(why) from error

    def close(self) -> None:
        """Let the attendant go; it takes the folder away."""
        self._attendant.close()
