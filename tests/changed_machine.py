"""Run a program on this machine with something missing: root changes the mounts, and nobody else notices."""

from __future__ import annotations

import os
import shlex
import shutil

import pytest

WITHOUT_BUBBLEWRAP = f"mount --bind /dev/null {shutil.which('bwrap')}"
WITHOUT_IP = f"mount --bind /dev/null {shutil.which('ip', path='/usr/bin:/usr/sbin:/sbin')}"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change a machine for a test")


def on_a_machine(changed: str, line: list[str]) -> list[str]:
    """`line`, run in this very process, where root has done `changed` to its mounts."""
    unshare = ["unshare", "--mount", "--propagation", "private"]
    return [*unshare, "sh", "-ec", f"{changed}\nexec {shlex.join(line)}"]
