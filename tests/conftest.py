"""Several processes share the tests (`-n`): a file goes to one of them whole, so that what it prepares is prepared once.

The tests of exercises are a third of all and need nothing but a sandbox, which stays from one to the next: they come last, one
by one, and fill what time the files leave. Attacks, the longest file, come in three parts.
"""

from __future__ import annotations

import re
import subprocess
import tempfile

import pytest
from xdist.scheduler import LoadScopeScheduling


class ByFile(LoadScopeScheduling):
    """Whole files, those with most tests first; of test_exercises.py, single tests."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        if file.endswith("test_attacks.py"):
            part = re.search(r"own_wall|\[(judges|meter)-", name)
            return f"{file}:{part[0] if part and part[0] == 'own_wall' else 'meters' if part else 'others'}"
        return nodeid if file.endswith("test_exercises.py") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    return ByFile(config, log)  # type: ignore[arg-type]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A folder of this run's own: pytest's is closed to other users whenever a run begins, and some tests are an ordinary user."""
    if config.option.basetemp or hasattr(config, "workerinput"):
        return
    place = config.option.basetemp = tempfile.mkdtemp(prefix="all-aboard-tests-")
    # Not Python's: some leave folders a thousand deep.
    config.add_cleanup(lambda: subprocess.run(["rm", "-rf", "--", place], check=False))
