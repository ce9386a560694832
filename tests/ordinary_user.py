"""Run Python as a user with no privileges, from a test that runs as root; as oneself otherwise.

Python and the project may lie in folders that only root may enter (/root). In a mount namespace of the test's own, such
a folder is replaced by one that anybody may enter and that holds nothing but what is needed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

UID = 61234
ROOT = Path(__file__).parents[1]


def open_to_all(place: Path) -> None:
    """Anybody may pass through `place` and the folders above it, as far as they are this user's."""
    for folder in (place, *place.parents):
        mode, owner = folder.stat().st_mode, folder.stat().st_uid
        if not mode & 0o001 and owner == os.geteuid():
            folder.chmod(mode | 0o011)


def command(arguments: list[str], home: Path) -> list[str]:
    """The command line that runs `python ARGUMENTS` as an ordinary user whose folder is `home`."""
    python = [sys.executable, *arguments]
    if os.geteuid() != 0:
        return python
    home.mkdir(parents=True, exist_ok=True)
    os.chown(home, UID, UID)
    needed = dict.fromkeys(Path(p).resolve() for p in (sys.base_prefix, sys.prefix, ROOT, home))
    closed = {p for path in needed for p in path.parents if not os.stat(p).st_mode & 0o001}
    closed = {p for p in closed if not any(other in p.parents for other in closed)}
    hold = shlex.quote(str(home / "hold"))
    script = ["set -e", f"mkdir -p {hold}"]
    inside = [path for path in needed if any(c in path.parents for c in closed)]
    for number, path in enumerate(inside):
        script += [f"mkdir -p {hold}/{number}", f"mount --bind {shlex.quote(str(path))} {hold}/{number}"]
    script += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(folder))}" for folder in closed]
    for number, path in enumerate(inside):
        script += [
            f"mkdir -p {shlex.quote(str(path))}",
            f"mount --bind {hold}/{number} {shlex.quote(str(path))}",
        ]
    script.append(
        f"exec setpriv --reuid={UID} --regid={UID} --clear-groups env HOME={shlex.quote(str(home))} "
        f"TMPDIR={shlex.quote(str(home))} {shlex.join(python)}"
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)]


def run(arguments: list[str], home: Path, **more: object) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` as an ordinary user: what it printed and how it ended."""
    return subprocess.run(command(arguments, home), capture_output=True, text=True, cwd="/", **more)  # type: ignore[call-overload, no-any-return]
