"""Folders that rooms are given: the grader puts files there, counts who opens them, and ends a room in the middle of its work."""

from __future__ import annotations

import pytest

from autograder.errors import SandboxError
from autograder.exercise import Limits
from autograder.expect import Finding
from autograder.learner import HereAndNow, Learner
from autograder.sandbox.host import Sandbox
from autograder.sandbox.room_host import SandboxRoom

DRIVE = """
import os, time
def read(answers, folder, times):
    for _ in range(times):
        with open(f"{folder}/data/a", "rb") as file: content = file.read()
    with open(f"{folder}/out/b", "wb") as file: file.write(content * 2)
    return len(content)
def save(answers, folder):
    number = 0
    while True:
        number += 1
        with open(f"{folder}/whole.part", "w") as file: file.write(f"{number:06d}" * 100_000)
        os.rename(f"{folder}/whole.part", f"{folder}/whole")
        yield number
def quiet(answers, folder):
    while True: yield 1
def leaves(answers, folder): os._exit(0)
def grow(answers, folder):
    for number in range(8):
        with open(f"{folder}/{number}", "wb") as file: file.write(os.urandom(2**20))
    return 0
def take(answers, mib): return len(bytearray(mib * 2**20))
def left(answers, folder): return sorted(os.listdir(os.path.dirname(folder)))
"""
FILES = {"data/a": b"abc", "out/": b""}


@pytest.fixture(scope="module", params=["bubblewrap", "namespaces", "here"])
def learner(request):
    if request.param == "here":
        drive: dict = {}
        exec(DRIVE, drive)
        yield Learner(HereAndNow({}, drive), lambda: 20.0, local=True)
        return
    try:
        sandbox = Sandbox(1, request.param)
    except SandboxError as error:
        pytest.skip(str(error))
    with sandbox:
        room = SandboxRoom(sandbox, Limits(), DRIVE)
        yield Learner(room, lambda: 20.0)
        room.close()


def test_the_kernel_counts_what_is_opened_and_the_grader_gets_what_was_made(learner):
    for times in (1, 3):
        value, kept = learner.drive_in_folder("read", FILES, times, returns=int)
        assert value == 3 and kept.opened == {"data/a": times, "out/b": 1}
        assert kept.files == {"data/a": b"abc", "out/b": b"abcabc"}


def test_ranks_have_a_folder_each(learner):
    run = learner.on_ranks(1).drive_in_folder("read", FILES, [2], returns=int)
    assert run.outputs == [3] and run.kept[0].opened == {"data/a": 2, "out/b": 1}


@pytest.mark.parametrize("after", [7, 8, 9, 10, 11])
def test_a_rank_that_is_ended_leaves_what_it_had_done_by_then(learner, after):
    run = learner.on_ranks(1).ended_while("save", {}, after, steps_at_most=1000, says=int)
    said, left = run.said[0], run.kept[0].files
    assert said and left["whole"] in (b"%06d" % said[-1] * 100_000, b"%06d" % (said[-1] + 1) * 100_000)
    # A new room, and nothing of the old one.
    assert learner.drive_in_folder("read", FILES, 1, returns=int)[0] == 3


@pytest.mark.parametrize("name", ["leaves", "quiet"])
def test_who_is_not_ended_by_the_grader_has_not_been_ended(learner, name):
    with pytest.raises(Finding) as found:
        learner.on_ranks(1).ended_while(name, FILES, 5, steps_at_most=20, says=int)
    assert found.value.diagnosis in ("answered-in-its-place", "unsendable")


def test_a_folder_is_gone_after_the_call_also_when_that_failed(learner):
    with pytest.raises(Finding):
        learner.drive_in_folder("read", FILES, "not a number", returns=int)
    others = learner.drive_in_folder("left", FILES, returns=[str])[0]
    assert sum(name.startswith(("files-", "folder-")) for name in others) == 1


def test_what_was_given_and_taken_back_leaves_nothing_that_later_rooms_are_measured_with(learner):
    def taken():
        return learner.on_ranks(1).drive("take", [6], returns=int).counters.peak_bytes[0]

    before = taken()
    for _ in range(3):
        learner.drive_in_folder("grow", {str(n): bytes(2**20) for n in range(8)}, returns=int)
    assert taken() == pytest.approx(before, abs=2**20)


def test_files_that_find_no_place_are_told(learner):
    if learner.local:
        pytest.skip("her own disk is larger")
    with pytest.raises(Finding, match="could not be put into its room"):
        # Of 5,000 files 4,096 fit in
        learner.drive_in_folder("read", {f"data/{n}": b"" for n in range(5000)}, 1, returns=int)
