"""A tiny course on disk: two answers, parameters, given code, a try-it cell, a wrong and a right answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autograder.exercise import Course, Exercise, load_exercise

TOML = """\
id = "two-sums"
title = "Two sums"
module = "m2-data-parallel"
lesson = "09-two-sums"
number = 9
minutes = 20
skills = ["adds"]
hints = ["Add.", "Add again."]

[points]
first = 4
second = 2.5

[diagnoses]
off-by-one = "One too many."
"""

MD = '''\
---
kernelspec:
  name: python3
  display_name: Python 3
---

# Two sums

Write both. ![a ring](figures/ring.svg)

```{code-cell} ipython3
:tags: [parameters]

seed = 0
```

```{code-cell} ipython3
import math
```

```{code-cell} ipython3
:answer: first

def first(a, b):
    """a + b"""
    ### BEGIN SOLUTION
    total = a + b
    return total
    ### END SOLUTION
```

Now the other.

```{code-cell} ipython3
:answer: second

def second(a):
    ### BEGIN SOLUTION
    return first(a, a)  # SECRET
    ### END SOLUTION
```

```{code-cell} ipython3
:tags: [try-it]

first(1, 2)
```
'''

WRONG = '''\
"""Adds one too many,
as one does.

fails: first as off-by-one
fails: second as off-by-one
"""
# %% first
def first(a, b):
    return a + b + 1

# %% second
def second(a):
    return a + a + 1
'''

RIGHT = '''\
"""By doubling."""

# %% second
def second(a):
    return 2 * a
'''

LESSON = """\
---
kernelspec:
  name: python3
  display_name: Python 3
---

```{code-cell} ipython3
# Not the title
x = 1
```

# The first heading

See [before](../08-before/lesson.md#end), [elsewhere](https://example.org/lesson.md) and the
[exercise](../../../exercises/two-sums/exercise.md) of all {term}`ranks <rank>` and of one {term}`rank`.
"""


def write_course(root: Path) -> Path:
    """Write the tiny course into `root` and return its exercise folder."""
    folder = root / "exercises" / "two-sums"
    lesson = root / "notebooks" / "m2-data-parallel" / "09-two-sums"
    for path, text in {
        folder / "exercise.toml": TOML,
        folder / "exercise.md": MD,
        folder / "judge.py": "# the judge\n",
        folder / "drive.py": "# the driver\n",
        folder / "figures" / "ring.svg": "<svg/>",
        folder / "wrong" / "off_by_one.py": WRONG,
        folder / "right" / "doubled.py": RIGHT,
        lesson / "lesson.md": LESSON,
        lesson / "data" / "times.csv": "1,2\n",
        lesson / ".cache" / "junk": "",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="session")
def tiny_course() -> Callable[[Path], Path]:
    """tiny_course(root): write it there, for tests that need another place or a longer life."""
    return write_course


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny exercise's folder, in a course at tmp_path/course."""
    return write_course(tmp_path / "course")


@pytest.fixture
def course(folder: Path) -> Course:
    """The tiny course."""
    return Course(folder.parent.parent)


@pytest.fixture
def exercise(folder: Path) -> Exercise:
    """The tiny exercise."""
    return load_exercise(folder)


@pytest.fixture
def edit(folder: Path) -> Callable[[str, str, str], None]:
    """edit(file, old, new): change one of the exercise's files."""

    def change(name: str, old: str, new: str) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change
