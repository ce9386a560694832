"""A second fuzzer, led by coverage: `pip install atheris`, then

    python -m tests.fuzz.with_atheris notebook|wire [-max_total_time=60] [-runs=100000] [any option of libFuzzer]

It ends with a trace back and the input's file when something other than a refusal comes out. Not part of `make test`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aboard.wire", "autograder.submission", "json"]):
    from aboard import wire
    from autograder import submission


def notebook_target(folder: Path):
    """The target, and inputs to start from."""
    import nbformat

    from autograder.exercise import load_exercise
    from autograder.release import skeleton
    from tests.autograder.conftest import write_course

    exercise = load_exercise(write_course(folder / "course"))
    sound = nbformat.writes(skeleton(exercise))
    path = folder / "submission.ipynb"

    def target(data: bytes) -> None:
        path.write_bytes(data)
        try:
            submission.read_submission(path, exercise)
        except submission.Rejected as refused:
            assert str(refused).isprintable()

    return target, [sound.encode(), json.dumps(json.loads(sound)).encode()]


def wire_target(_: Path):
    import torch

    def target(data: bytes) -> None:
        size = int.from_bytes(data[:2], "big")
        try:
            wire.decode(data[2 : 2 + size], data[2 + size :])
        except wire.WireError:
            pass

    values = [
        [1, 2.5, None, "text", (True, float("inf")), {"a": 2**70}],
        {"x": torch.ones(2, 3), "d": torch.float16},
    ]
    messages = [wire.encode(value) for value in values]
    return target, [len(text).to_bytes(2, "big") + text + blob for text, blob in messages]


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in ("notebook", "wire"):
        sys.exit(__doc__)
    which = sys.argv.pop(1)
    folder = Path(tempfile.mkdtemp(prefix="all-aboard-atheris-"))
    target, seeds = (notebook_target if which == "notebook" else wire_target)(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([*sys.argv, f"-artifact_prefix={folder}/", str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
