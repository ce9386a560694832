"""`make soak`: the long forms of the tests, hours of them, and what they found, for the security page.

    python -m tests.soak [--lint-runs N] [--only attacks|faults|fuzz|jobs|flakes]

Attacks under both engines, 200 kills, 20,000 malformed inputs, and the whole of `autograder lint` again and again with
every core busy. Writes book/_data/soak.json; `python -m tests.soak --page` makes the table of the security page from it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA, PAGE = ROOT / "book" / "_data" / "soak.json", ROOT / "book" / "_data" / "soak.md"
LONG = {
    "attacks": ("Hostile submissions, under both engines", "attacks"),
    "faults": ("Faults: the grader or a part of it killed, the machine failing", "faults"),
    "fuzz": ("Malformed notebooks and messages", "fuzz"),
    "jobs": ("Job scripts and trainings on a miniature of every machine", "aboard/test_jobs.py"),
}


def tests(folder: str) -> dict[str, Any]:
    """Run tests/FOLDER in its long form: how many tests, or kills or inputs where a test tries many; failures; seconds."""
    report = ROOT / "build" / f"soak-{Path(folder).stem}.xml"
    report.parent.mkdir(exist_ok=True)
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "pytest", f"tests/{folder}", "-q", "-o", "junit_family=xunit1", f"--junitxml={report}"],
        cwd=ROOT, env=os.environ | {"SOAK": "1"}, check=False,
    )  # fmt: skip
    suite = next(xml.parse(report).getroot().iter("testsuite"))
    bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    count = int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
    tried = sum(
        int(p.get("value", 0)) for p in suite.iter("property") if p.get("name") in ("kills", "inputs")
    )
    return {"run": max(count, tried), "failed": bad, "seconds": round(time.monotonic() - start)}


def flakes(runs: int) -> dict[str, Any]:
    """`autograder lint` of every exercise `runs` times, each with fresh draws, while every core is kept busy."""
    load = [multiprocessing.Process(target=_be_busy, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in load:
        process.start()
    start, verdicts, changed = time.monotonic(), 0, []
    try:
        for number in range(runs):
            done = subprocess.run(
                [sys.executable, "-m", "autograder.cli", "lint", "--json"],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            for report in json.loads(done.stdout):
                for attempt in report["attempts"]:
                    verdicts += 1
                    if attempt["problem"]:
                        changed.append(f"{attempt['exercise']} {attempt['name']}: {attempt['problem']}")
            print(f"lint {number + 1}/{runs}: {verdicts} verdicts, {len(changed)} changed", flush=True)
    finally:
        for process in load:
            process.terminate()
    return {
        "runs": runs,
        "run": verdicts,
        "failed": len(changed),
        "changed": changed,
        "seconds": round(time.monotonic() - start),
    }


def _be_busy() -> None:
    while True:
        sum(range(100_000))


def page(data: dict[str, Any]) -> str:
    """The table of the security page."""
    lines = ["| what | run | went wrong | minutes | when |", "|---|---:|---:|---:|---|"]
    for key, (title, _) in LONG.items():
        if key in data:
            lines.append(_row(title, data[key]))
    if "flakes" in data:
        title = (
            f"Verdicts of `autograder lint`, {data['flakes']['runs']} times over, with every core kept busy"
        )
        lines.append(_row(title, data["flakes"]))
    return "\n".join([*lines, "", f"Measured on {data['machine']}.", ""])


def _row(title: str, found: dict[str, Any]) -> str:
    return (
        f"| {title} | {found['run']:,} | {found['failed']} | {found['seconds'] / 60:.0f} | {found['date']} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lint-runs", type=int, default=50)
    parser.add_argument("--only", choices=[*LONG, "flakes"], help="one of them")
    parser.add_argument("--page", action="store_true", help="make the table from what was found before")
    asked = parser.parse_args()
    data: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {}
    if not asked.page:
        for key in [asked.only] if asked.only else [*LONG, "flakes"]:
            data[key] = flakes(asked.lint_runs) if key == "flakes" else tests(LONG[key][1])
            data[key]["date"] = datetime.date.today().isoformat()
            data["machine"] = (
                f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
            )
            DATA.parent.mkdir(exist_ok=True)
            DATA.write_text(json.dumps(data, indent=1) + "\n")
    PAGE.write_text(page(data))
    print(page(data))
    if any(found["failed"] for found in data.values() if isinstance(found, dict)):
        sys.exit(1)


if __name__ == "__main__":
    main()
