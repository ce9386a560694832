"""Break the reader: files that are no notebooks, or claim to be more than they are."""

from __future__ import annotations

import copy
import gzip
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.attacks.attack import Attack, cell_of, cells, edited, raw

NOTEBOOK = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {"all_aboard": {"exercise": "ring-all-reduce"}}, "cells": [%s]}'


def huge(nb: dict[str, Any]) -> None:
    cell_of(nb, "ring")["source"] = ["x = 1\n"] * 900_000


def too_long(nb: dict[str, Any]) -> None:
    cell_of(nb, "ring")["source"] = "#" * (1 << 20)


def formats(nb: dict[str, Any]) -> None:
    nb["nbformat"], nb["nbformat_minor"] = 4, 10**18


def odd_sources(nb: dict[str, Any]) -> None:
    cell_of(nb, "chunks")["source"] = {"a": 1}
    cell_of(nb, "ring")["source"] = ["x", 1, None]


def bad_characters(nb: dict[str, Any]) -> None:
    cell_of(nb, "chunks")["source"] = "x = '\ud800\x00\udfff'\ndef chunk_bounds(n, w):\n    return x"
    cell_of(nb, "ring")["source"] = "\ufeff\u2028\r\x0c\x1a" + "def ring_all_reduce(t):\n    return t"


def twice(ground: Any, exercise: Any) -> str:
    text = cells()(ground, exercise)
    assert isinstance(text, str)
    return text.replace('"cells":', '"cells": [], "cells":', 1)


def sparse_file(ground: Any, exercise: Any, path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def just_large(ground: Any, exercise: Any, path: Path) -> None:
    with open(path, "wb") as file:
        file.write(b"[" * 9_900_000)


def link(target: str) -> Any:
    def place(ground: Any, exercise: Any, path: Path) -> None:
        path.symlink_to(
            target.replace("@HOME@", str(ground.home)).replace("@SUBMISSIONS@", str(ground.submissions))
        )

    return place


def linked_folder(ground: Any, exercise: Any, path: Path) -> None:
    path.parent.rmdir()
    path.parent.symlink_to(ground.submissions / "alice")


def fifo(ground: Any, exercise: Any, path: Path) -> None:
    os.mkfifo(path)


def folder(ground: Any, exercise: Any, path: Path) -> None:
    path.mkdir()


def unix_socket(ground: Any, exercise: Any, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        made.bind(path.name)
        os.chdir(here)


def nothing(ground: Any, exercise: Any, path: Path) -> None:
    pass


def unreadable_device(ground: Any, exercise: Any, path: Path) -> None:
    if subprocess.run(["mknod", str(path), "c", "1", "5"], capture_output=True).returncode:  # /dev/zero
        path.symlink_to("/dev/zero")


def clones(nb: dict[str, Any]) -> None:
    nb["cells"] += [copy.deepcopy(cell_of(nb, "ring")) for _ in range(450)]


ATTACKS = [
    Attack("cut-short", "half of a notebook", lambda g, e: cells()(g, e)[:-200], rejected=True),
    Attack("empty", "nothing at all", raw(b""), rejected=True),
    Attack("format-3", "an old format", raw(json.dumps({"nbformat": 3, "worksheets": [{"cells": []}]})), rejected=True),
    Attack("format-99", "a format of the future", raw(NOTEBOOK.replace('"nbformat": 4', '"nbformat": 99') % ""), rejected=True),
    Attack("format-text", "a format that is text, huge or true", raw(NOTEBOOK.replace('"nbformat": 4', '"nbformat": "4"') % ""), rejected=True),
    Attack("format-long", "a format of ten million digits", raw(NOTEBOOK.replace('"nbformat": 4', '"nbformat": ' + "9" * 9_000_000) % ""), rejected=True),
    Attack("minor", "a minor version beyond all", edited(formats)),
    Attack("bytes", "bytes that are no text", raw(bytes(range(256)) * 1000), rejected=True),
    Attack("utf-16", "another encoding", raw((NOTEBOOK % "").encode("utf-16")), rejected=True),
    Attack("zip-bomb", "a gigabyte, packed", raw(gzip.compress(bytes(10**8))), rejected=True),
    Attack("terabyte", "a file of a terabyte, with nothing in it", place=sparse_file, rejected=True),
    Attack("brackets", "ten million brackets", place=just_large, rejected=True),
    Attack("deep-json", "JSON a hundred thousand levels deep, in a place that nobody reads", raw(NOTEBOOK % ('{"metadata": ' * 100_000 + "{}" + "}" * 100_000)), rejected=True),
    Attack("many-cells", "a million cells", raw(NOTEBOOK % ",".join(["{}"] * 1_000_000)), rejected=True),
    Attack("same-cell-often", "450 copies of an answer", edited(clones)),
    Attack("no-cells", "cells that are none", raw(NOTEBOOK % "1, null, [], true"), rejected=True),
    Attack("many-keys", "a million keys, twice each", raw('{"a": 1,' + ",".join(f'"k{i % 200000}": 1' for i in range(600_000)) + "}"), rejected=True),
    Attack("two-cells-keys", "two lists of cells: which one counts?", twice, rejected=True),
    Attack("numbers", "numbers beyond all bounds", raw((NOTEBOOK % "").replace('"metadata"', '"a": 1e999999999, "b": -' + "9" * 100000 + ', "c": NaN, "metadata"', 1))),
    Attack("long-answer", "an answer of a megabyte", edited(too_long), rejected=True),
    Attack("many-lines", "an answer of a million lines", edited(huge), rejected=True),
    Attack("odd-sources", "sources that are dicts and mixed lists", edited(odd_sources)),
    Attack("bad-characters", "surrogates, zeros and separators in the source", edited(bad_characters)),
    Attack("link-to-secret", "a link to a secret", place=link("@HOME@/.ssh/id_secret"), rejected=True),
    Attack("link-to-neighbour", "a link to a neighbour's right answer", place=link("@SUBMISSIONS@/alice/ring-all-reduce.ipynb"), rejected=True),
    Attack("link-to-itself", "a link that leads to itself", place=link("ring-all-reduce.ipynb"), rejected=True),
    Attack("linked-folder", "a learner's folder that is a link to a neighbour's", place=linked_folder, rejected=True),
    Attack("fifo", "a pipe that never ends", place=fifo, rejected=True),
    Attack("folder", "a folder", place=folder, rejected=True),
    Attack("socket", "a socket", place=unix_socket, rejected=True),
    Attack("device", "a device without end", place=unreadable_device, rejected=True),
    Attack("vanished", "a file that is gone when it is read", place=nothing, rejected=True),
]  # fmt: skip
