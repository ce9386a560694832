"""The page about speed says what was measured, and what measures is right."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.bench import clock, measure, page, peers

FOUND = json.loads(page.DATA.read_text())
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("path", page.files(FOUND), ids=lambda path: path.name)
def test_the_page_is_what_code_makes_of_the_data(path):
    assert path.read_text() == page.files(FOUND)[path], (
        f"{path}: run `python -m tests.bench.page`; what stands in the book is made from {page.DATA.name}"
    )


@pytest.mark.parametrize(
    "path", [p for p in page.files(FOUND) if p.suffix == ".svg"], ids=lambda path: path.name
)
def test_a_figure_says_what_it_shows(path):
    root = ET.fromstring(path.read_text())
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == " ".join(
        root.find(f"{SVG}{name}").get("id") for name in ("title", "desc")
    )
    described = root.findtext(f"{SVG}desc")
    # The values that are drawn are also said, there and in the page's text alternative.
    drawn = [text.text for text in root.iter(f"{SVG}text") if text.text.endswith(" s")]
    assert all(value.removesuffix(" s") in described for value in drawn)
    assert described in (page.ROOT / "book/bench.md").read_text()


def test_the_book_shows_a_whole_run_or_says_that_it_does_not():
    if FOUND["quick"]:
        assert "This was a short run" in (page.ROOT / "book/bench.md").read_text()
        return
    assert {row["count"] for row in FOUND["scaling"]} >= {10, 100, 1000, 5000}
    measured = {(row["tool"], row["count"]) for row in FOUND["side_by_side"] if row["work"] == "trivial"}
    tools = {"autograder", "nbgrader", "otter-grader"} - set(FOUND["not_measured"])
    assert measured >= {(tool, count) for tool in tools for count in (1, 8, 64)}


def test_a_peer_that_could_not_be_installed_is_told_as_such():
    rows = [row for row in FOUND["side_by_side"] if row["tool"] != "nbgrader"]
    text = page.files(FOUND | {"side_by_side": rows})[page.ROOT / "book/bench.md"]
    assert "| nbgrader | | not measured | | |" in text


def test_without_a_network_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "PLACE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(
        peers.NotHere, match="^nbgrader could not be installed, so it is not measured"
    ) as raised:
        peers.Environment("nbgrader")
    assert "\n" not in str(raised.value)


def test_cost_counts_descendants():
    """A grandchild's processor time and memory are the command's; pages that two processes share count once."""
    work = "import time; data = b'x' * 100_000_000; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    both = f"import os\n{work}\nif os.fork() == 0:\n    time.sleep(0.6); os._exit(0)\nos.wait()"
    found = measure.cost(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {both!r}])"]
    )
    assert 0.5 <= found.cpu_s <= 2 and found.wall_s >= 1.1
    assert 100e6 <= found.peak_bytes <= 190e6


def test_cost_counts_whom_nobody_waited_for():
    """A sandbox ends its processes without waiting for each; wait4 alone would not count them."""
    try:
        clock.TaskClock().stop()
    except OSError as error:
        pytest.skip(f"this kernel keeps its task clock to itself: {error}")
    work = "end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    unwaited = f"import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nif os.fork():\n    time.sleep(3)\nelse:\n    exec({work!r})"
    assert 0.5 <= measure.cost([sys.executable, "-c", unwaited]).cpu_s <= 1.5


def test_a_command_that_fails_is_told_with_its_last_words():
    with pytest.raises(measure.Failed, match="(?s)status 3.*the disk is on fire"):
        measure.cost([sys.executable, "-c", "print('the disk is on fire'); raise SystemExit(3)"])
