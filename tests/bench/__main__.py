"""`make bench`: what grading costs, beside stock papermill, nbgrader and otter-grader in the same run.

    python -m tests.bench [--quick] [--publish] [--only PART …]

Figures go to build/bench.json as they come; --publish puts them into the book. Ratios are what carries over to another
machine; processor seconds are what carries over from a busy machine to an idle one. What is compared is in one part, and so
in one run; --only measures a part again, and keeps the book's other ones, if they are of the same machine and versions.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench import own, page, runs
from tests.bench.peers import Environment

ROOT = own.ROOT
OUT = ROOT / "build" / "bench.json"
PARTS = ("own", "side_by_side", "scaling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument(
        "--quick", action="store_true", help="1 and 8 submissions of each, and at most 100 of ours (minutes)"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="put the figures into the book: book/_data/bench.json, book/bench.md",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    options = parser.parse_args()
    start = time.monotonic()
    found = measure(options.quick, options.only)
    print(f"\n{time.monotonic() - start:.0f} s in all; written to {OUT.relative_to(ROOT)}")
    for line in page.missed(found):
        print(f"goal missed: {line}")
    if options.publish:
        for path in page.publish(found):
            print(f"written to {path.relative_to(ROOT)}")


def measure(quick: bool, parts: Sequence[str]) -> dict[str, Any]:
    """Measure `parts`, a line for each figure; what was found, with the book's other parts, as it stands in build/bench.json."""
    jobs = len(os.sched_getaffinity(0))
    peers, missing = runs.environments()
    for sentence in missing.values():
        print(sentence, file=sys.stderr)
    found: dict[str, Any] = {
        "machine": machine(jobs), "jobs": jobs, "quick": quick,
        "versions": {
            "Python": platform.python_version(), "PyTorch": version("torch"), "papermill": version("papermill"),
            **{name: environment.version for name, environment in peers.items()},
        },
        "not_measured": missing,
    }  # fmt: skip
    found |= {"dates": {}, **{part: [] for part in PARTS}} | _kept(
        [p for p in PARTS if p not in parts], found
    )
    for part in parts:
        found["dates"][part] = datetime.date.today().isoformat()
        found[part] = []
        for line, row in _figures(quick) if part == "own" else _runs(part, peers, jobs, quick):
            print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
            if row:
                found[part].append(row)
                OUT.parent.mkdir(exist_ok=True)
                OUT.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _figures(quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(What to say, what to keep) of each figure taken in this process."""
    for figure in own.figures(50 if quick else 1000):
        goal = f" (goal {figure.goal})" if figure.goal else ""
        yield f"{figure.what}: {page.number(figure.value)} {figure.unit}{goal}", vars(figure)


def _runs(
    part: str, peers: dict[str, Environment], jobs: int, quick: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same of each run of a command; nothing to keep of one that failed."""
    few, many = (8, 100) if quick else (64, 5000)
    for run in runs.side_by_side(peers, jobs, few) if part == "side_by_side" else runs.scaling(jobs, many):
        if isinstance(run, str):
            yield run, {}
            continue
        cost = run.cost
        yield (
            f"{run.way}, {run.work}, {run.count} submissions: each {page.number(cost.wall_s / run.count)} s, "
            f"{page.number(cost.cpu_s / run.count)} CPU s; peak {page.amount(cost.peak_bytes)}; others used "
            f"{cost.others:.1f} cores",
            run.as_json(),
        )


def _kept(parts: list[str], like: dict[str, Any]) -> dict[str, Any]:
    """The book's `parts`, which must have been measured as `like` is."""
    if not parts:
        return {}
    before = json.loads(page.DATA.read_text())
    differ = [key for key in like if before.get(key) != like[key]]
    if differ:
        sys.exit(
            f"The book's figures differ from this run in {' and '.join(differ)}, and cannot stand beside it: measure all "
            "parts, without --only."
        )
    return {part: before[part] for part in parts} | {"dates": {part: before["dates"][part] for part in parts}}


def machine(cores: int) -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    kernel = ".".join(platform.release().split(".")[:2])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu, "cores": cores, "memory_bytes": memory, "system": f"{release}, Linux {kernel}"}


if __name__ == "__main__":
    main()
