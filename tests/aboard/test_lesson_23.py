"""An ordinary user goes from nothing to a requeued training over two nodes, by what lesson 23 prints for a terminal."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from aboard.cluster import means
from tests import ordinary_user

LESSON = Path(__file__).parents[2] / "notebooks/m5-operate/23-checkpoint-requeue/lesson.md"
RUN = "import subprocess, sys; sys.exit(subprocess.run(['bash', '-euc', sys.argv[1]]).returncode)"


def as_a_script(block: str) -> str:
    """The lines for a terminal, with what a person does there by eye and hand: look until it is there, end with Ctrl-C."""
    lines = [line.split("#")[0].rstrip() for line in block.splitlines()]
    look = "timeout 240 bash -c 'until grep -qs \"{}\" example-1.out; do sleep 0.2; done' || {{ squeue; cat example-1.out; exit 1; }}"
    lines = [look.format("^step 50") if line == "cat example-1.out" else line for line in lines]
    lines = [
        look.format("^final loss") + "; cat example-1.out" if line.startswith("tail -f") else line
        for line in lines
    ]
    at, end = lines.index("aboard cluster shell"), lines.index("exit")
    return "\n".join(
        [
            *lines[:at],
            "aboard cluster shell <<'END'",
            "set -e",
            *lines[at + 1 : end],
            "END",
            *lines[end + 1 :],
        ]
    )


@pytest.mark.skipif(bool(means.missing(means.SLURM)), reason="Slurm is not installed")
def test_what_the_lesson_says_works_for_an_ordinary_user():
    text = LESSON.read_text()
    part = text[text.index("## Try it yourself, in a terminal") : text.index("## Where it stops working")]
    blocks = re.findall(r"```bash\n(.*?)```", part, re.DOTALL)  # the first, and how one leaves
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        home = Path(folder) / "home"
        bin_folder = Path(sys.executable).parent
        script = f"cd; export PATH={bin_folder}:$PATH ABOARD_CLUSTER_DIR=$HOME/cluster\n{as_a_script(blocks[0] + blocks[-1])}"
        done = ordinary_user.run(["-c", RUN, script], home, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        saved = re.findall(r"told to stop: saved after (\d+) steps", done.stdout)
        began = re.findall(r"8 ranks, step (\d+) of 300", done.stdout)
        assert len(saved) == 1 and began == ["0", saved[0]] and "final loss" in done.stdout, done.stdout
        assert not (home / "cluster").exists()
