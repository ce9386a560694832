"""What the kernel tells of a folder: every opening, whoever tries to have it told as fewer; and nobody is led astray."""

import os
import sys
import time

import pytest

from aboard.ranks.call import Call, RanksFailed
from aboard.ranks.folder import MOST_BYTES, MOST_FILES, Attendant, Folder, bundle, unbundle
from aboard.ranks.local import run_call

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has inotify")
FILES = {"data/a": b"one", "data/deep/b": b"", "c": b"\0\xff", "out/": b""}


@pytest.fixture
def base(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def open_once(path):
    with open(path, "rb") as file:
        return file.read()


def test_it_holds_the_files_and_counts_who_opens_them(base, tmp_path):
    folder, root = Folder(base, "x", FILES), tmp_path / "x"
    assert {path: open_once(root / path) for path in FILES if not path.endswith("/")} == {
        "data/a": b"one", "data/deep/b": b"", "c": b"\0\xff"
    }  # fmt: skip
    open_once(root / "c")
    for _ in range(3):
        with open(root / "out" / "new", "ab") as file:
            file.write(b"!")
    os.stat(root / "data/a")
    kept = folder.take_back()
    assert kept.opened == {"data/a": 1, "data/deep/b": 1, "c": 2, "out/new": 3}
    assert kept.files == {"data/a": b"one", "data/deep/b": b"", "c": b"\0\xff", "out/new": b"!!!"}
    assert kept.whole and not kept.ended and os.listdir(tmp_path) == []


def test_two_openings_at_once_are_two_by_whatever_name(base, tmp_path):
    folder, root = (
        Folder(base, "x", {name: b"" for name in ("plain", "moved", "linked", "untouched")}),
        tmp_path / "x",
    )
    os.rename(root / "moved", tmp_path / "moved")
    os.link(root / "linked", tmp_path / "linked")
    for path in (root / "plain", tmp_path / "moved", tmp_path / "linked"):
        one, two = open(path), open(path)
        one.close(), two.close()
    opened = folder.take_back().opened
    assert opened.keys() == {"plain", "moved", "linked"} and min(opened.values()) == 2


def test_a_file_that_is_removed_when_it_has_been_read_was_opened_once(base, tmp_path):
    folder = Folder(base, "x", {"a": b""})
    open_once(tmp_path / "x" / "a")
    os.remove(tmp_path / "x" / "a")
    assert folder.take_back().opened == {"a": 1}


def test_more_than_the_kernel_can_tell_is_not_few(base, tmp_path):
    folder, most = (
        Folder(base, "x", {"a": b"", "b": b""}),
        int(open("/proc/sys/fs/inotify/max_queued_events").read()),
    )
    for _ in range(most // 3 + 100):
        os.close(os.open(tmp_path / "x" / "a", os.O_RDONLY))
    assert folder.take_back().opened["a"] > most


def test_names_made_up_one_after_the_other_fill_nothing_and_are_not_few(base, tmp_path):
    folder = Folder(base, "x", {"a": b"", "out/": b""})
    for number in range(2 * MOST_FILES):
        path = tmp_path / "x" / "out" / str(number)
        path.touch()
        path.unlink()
        if not number % 100:
            folder.take()
    opened = folder.take_back().opened
    assert len(opened) <= MOST_FILES + 2 and min(opened.values()) > 2 * MOST_FILES


def test_it_follows_no_link_and_reads_no_more_than_it_may(base, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    folder, root = Folder(base, "x", FILES), tmp_path / "x"
    os.rename(root / "data", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", root / "data")
    os.symlink(tmp_path / "secret", root / "out" / "link")
    os.mkfifo(root / "out" / "pipe")
    with open(root / "out" / "huge", "wb") as file:
        file.truncate(4 * MOST_BYTES)
    os.makedirs(root / "/".join("d" * 40))
    kept = folder.take_back()
    assert (
        sum(map(len, kept.files.values())) <= MOST_BYTES
        and not kept.whole
        and kept.files.keys() == {"c", "out/huge"}
    )
    assert (tmp_path / "secret").exists() and (tmp_path / "elsewhere" / "a").exists()


def test_files_cross_a_socket():
    for files in ({}, {"a": b"", "b/": b""}, {"a": b"xy", "b": b"z"}):
        assert unbundle(bundle(files)) == files


def test_it_acts_at_the_change_it_was_told(base, tmp_path):
    acted = []
    folder = Folder(base, "x", {"a": b""}, after=3, act=lambda: acted.append(folder.changes))
    attendant = Attendant([folder])
    for _ in range(4):
        open_once(tmp_path / "x" / "a")
        time.sleep(0.05)
    attendant.stop()
    assert acted == [3] and folder.take_back().ended


def call(function, **how):
    return run_call(Call("f", [], {}, 1, timeout_s=20, files=FILES, **how), lambda _name, _drive: function)


def test_a_rank_gets_a_folder_and_the_run_says_what_became_of_it():
    run = call(
        lambda folder: [open_once(f"{folder}/data/a") for _ in range(2)] and sorted(os.listdir(folder))
    )
    assert run.outputs == [["c", "data", "out"]]
    assert run.kept[0].opened == {"data/a": 2} and run.kept[0].files["c"] == b"\0\xff"


def test_a_rank_is_ended_while_it_works_and_what_it_had_said_is_known():
    def work(folder):
        number = 0
        while True:
            number += 1
            with open(f"{folder}/out/{number}", "w") as file:  # made, opened, closed: three changes
                file.write("x" * 1000)
            yield number
            time.sleep(0.02)

    run = call(work, end_after=8, later=[[None]] * 50)
    assert run.kept[0].ended and run.outputs == [] and 2 <= run.said[0][-1] <= 4
    assert {"out/1", "out/2", "out/3"} <= run.kept[0].files.keys()


def test_one_that_ends_by_itself_was_not_ended():
    run = call(lambda folder: os._exit(0), end_after=8)
    assert not run.kept[0].ended
    with pytest.raises(RanksFailed, match="process of rank 0 ended|process ended"):
        call(lambda folder: os._exit(0))
