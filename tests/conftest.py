"""Several processes share the tests (`-n`): a file goes to one of them whole, so that what it prepares is prepared once.

Files that take long come first, those in which one waits for Slurm beside those that need the processor. The tests of exercises
are a third of all and need nothing but a sandbox, which stays from one to the next: they come last, one by one, and
fill what time the files leave. Attacks, the longest file, come in four parts.
"""

from __future__ import annotations

import gc
import re
import subprocess
import tempfile
import zlib

import pytest
from xdist.scheduler import LoadScopeScheduling

LONG = (
    "test_lesson_23.py",
    "test_book.py",
    "test_attacks.py",
    "test_jobs.py",
    "test_kills.py",
    "test_cluster.py",
)


class ByFile(LoadScopeScheduling):
    """Whole files; of test_exercises.py, single tests."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        if file.endswith("test_attacks.py"):
            part = re.search(r"own_wall|without_namespaces|\[(judges|meter)-", name)
            return f"{file}:{'meters' if part and part[1] else part[0] if part else 'others'}"
        return nodeid if file.endswith("test_exercises.py") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    config.option.loadscopereorder = False  # in the order of _place
    return ByFile(config, log)  # type: ignore[arg-type]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def pytest_collection_finish() -> None:
    gc.freeze()  # PyTorch's half a million objects stay: they need not be gone through again and again


def _place(item: pytest.Item) -> tuple[int, int]:
    """Long files, then the others, then exercises: under both engines, then who meets all checks, then wrong answers, each strewn
    about."""
    file, name = item.path.name, item.name
    if file != "test_exercises.py":
        return (LONG.index(file) if file in LONG else len(LONG)), 0
    longest_first = 0 if "engines" in name else 2 if "-wrong-" in name else 1
    return len(LONG) + 1 + longest_first, zlib.crc32(name.encode())


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A folder of this run's own: pytest's is closed to other users whenever a run begins, and some tests are an ordinary user."""
    if config.option.basetemp or hasattr(config, "workerinput"):
        return
    place = config.option.basetemp = tempfile.mkdtemp(prefix="all-aboard-tests-")
    # Not Python's: some leave folders a thousand deep.
    config.add_cleanup(lambda: subprocess.run(["rm", "-rf", "--", place], check=False))
