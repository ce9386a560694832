"""The end of a room that has no namespace: its keeper ends all that runs in it, and nothing else of the same user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autograder.sandbox import landlock
from tests import ordinary_user

pytestmark = pytest.mark.skipif(
    landlock.abi() < landlock.NEEDED_ABI, reason=f"this kernel has Landlock {landlock.abi()}"
)
# Processes that fork for ever, each in a session of its own, and whose parents are gone.
BOMB = """
import os
if os.fork() == 0:
    while True:
        try:
            if os.fork() == 0: os.setsid()
        except OSError: pass
"""
END = """
import json, os, socket, sys, time
from aboard import wire
from autograder.sandbox import kernel
from autograder.sandbox.account import Room, below, process_tree
from autograder.sandbox.confined import open_confined_room
from autograder.sandbox.ending import end
kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)  # what outlives the keeper is seen here
bystander = os.fork()
if bystander == 0:
    time.sleep(60)
    os._exit(0)
ours, theirs = socket.socketpair()
limits = {"memory_mib": 512, "cpu_s": 60, "file_mib": 64, "processes": 100}
keeper = open_confined_room(theirs, limits, os.path.abspath("room"))
theirs.close()
wire.send(ours, {"op": "cell", "source": sys.argv[1]})
deadline = time.monotonic() + 30
while len(below(keeper, process_tree())) < 50 and time.monotonic() < deadline:
    time.sleep(0.01)
ran, start = len(below(keeper, process_tree())), time.monotonic()
end(Room(keeper, [], os.path.abspath("room")))
os.waitpid(keeper, 0)
seconds = time.monotonic() - start
print(json.dumps({
    "ran": ran, "seconds": seconds, "left": [pid for pid in below(os.getpid(), process_tree()) if pid != bystander],
    "bystander": os.waitpid(bystander, os.WNOHANG),
}))
os.kill(bystander, 9)
"""


def test_a_room_full_of_forking_processes_ends_and_a_process_beside_it_lives(tmp_path: Path) -> None:
    ordinary_user.open_to_all(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    code = f"import os\nos.chdir({str(home)!r})\n" + END
    done = ordinary_user.run(["-c", code, BOMB], home, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ran"] >= 50
    assert found["left"] == []
    assert found["bystander"] == [0, 0]
    assert found["seconds"] < 5  # after which the keeper would have given up
