"""`make soak`: the long forms of the tests, days of them, and what they found, for the security page.

    python -m tests.soak [--only PART …] [--lint-runs N] [--exercises ID …]

Attacks under both engines and every layer, 200 kills, 20,000 malformed inputs, job scripts, and `autograder lint` again and
again with every core busy: together more than a day on 2 cores, so parts can be run on days of their
own. Each writes what it found to book/_data/soak.json as it ends; the table of the security page is made from that (`--page`:
without running anything).
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.exercise import Course

ROOT = Path(__file__).parents[1]
DATA, PAGE = ROOT / "book" / "_data" / "soak.json", ROOT / "book" / "_data" / "soak.md"


@dataclass(frozen=True)
class Part:
    """Tests that have a long form. where: under tests/; only: which of them, as for pytest's -k."""

    about: str
    where: str
    only: str = ""


LONG = {
    "attacks-fork": Part(
        "Hostile submissions in bubblewrap, engine `fork`",
        "attacks",
        "not under_kernel and not own_wall and not without_namespaces",
    ),
    "attacks-kernel": Part("Hostile submissions in bubblewrap, engine `kernel`", "attacks", "under_kernel"),
    "attacks-own-wall": Part(
        "Hostile submissions behind our own wall, for root and for an ordinary user", "attacks", "own_wall"
    ),
    "attacks-landlock": Part(
        "Hostile submissions that need one process only, under Landlock alone",
        "attacks",
        "without_namespaces",
    ),
    "faults": Part("Faults: the grader or a part of it killed, the machine failing", "faults"),
    "fuzz": Part("Malformed notebooks and messages", "fuzz"),
    "jobs": Part("Job scripts and trainings on a miniature of every machine", "aboard/test_jobs.py"),
}


def tests(name: str) -> dict[str, Any]:
    """Run a part in its long form: how many tests, or kills or inputs where a test tries many; failures; seconds."""
    part = LONG[name]
    report = ROOT / "build" / f"soak-{name}.xml"
    report.parent.mkdir(exist_ok=True)
    start = time.monotonic()
    subprocess.run(
        [
            sys.executable, "-m", "pytest", f"tests/{part.where}", "-k", part.only, "-q",
            "-o", "junit_family=xunit1", f"--junitxml={report}",
        ],
        cwd=ROOT, env=os.environ | {"SOAK": "1"}, check=False,
    )  # fmt: skip
    suite = next(xml.parse(report).getroot().iter("testsuite"))
    bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    count = int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
    tried = sum(
        int(p.get("value", 0)) for p in suite.iter("property") if p.get("name") in ("kills", "inputs")
    )
    cases = list(suite.iter("testcase"))
    wrong = [c.get("name") for c in cases if c.find("failure") is not None or c.find("error") is not None]
    seconds = round(time.monotonic() - start)
    return {"run": max(count, tried), "failed": bad, "wrong": wrong, "seconds": seconds}


def flakes(exercises: list[str]) -> list[dict[str, Any]]:
    """What `autograder lint` of `exercises` reports with fresh draws, while every core is kept busy and twice as many answers
    are tried at a time as there are cores."""
    cores = os.cpu_count() or 1
    load = [multiprocessing.Process(target=_be_busy, daemon=True) for _ in range(cores)]
    for process in load:
        process.start()
    command = [sys.executable, "-m", "autograder.cli", "lint", "--json", f"--jobs={2 * cores}", *exercises]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    finally:
        for process in load:
            process.terminate()
            process.join()
    if not done.stdout:
        sys.exit(f"autograder lint could not be run (status {done.returncode}); what it said is above.")
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports


def _be_busy() -> None:
    while True:
        sum(range(100_000))


def added(report: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What one more lint of an exercise found, and those before it."""
    changed = [f"{one['name']}: {one['problem']}" for one in report["attempts"] if one["problem"]]
    return {
        "runs": before.get("runs", 0) + 1,
        "run": before.get("run", 0) + len(report["attempts"]),
        "changed": before.get("changed", []) + changed + report["problems"],
        "since": before.get("since", _today()),
    }


def page(data: dict[str, Any]) -> str:
    """The tables of the security page."""
    lines = ["| what | run | went wrong | minutes | when |", "|---|---:|---:|---:|---|"]
    lines += [
        f"| {part.about} | {found['run']:,} | {found['failed']} | {found['seconds'] / 60:.0f} | {_in_one_line(found['date'])} |"
        for key, part in LONG.items()
        if (found := data.get(key))
    ]
    wrong = [name for key in LONG for name in data.get(key, {}).get("wrong", [])]
    if wrong:
        lines += ["", f"What went wrong: {', '.join(f'`{name}`' for name in wrong)}."]
    if linted := data.get("flakes"):
        lines += [
            "",
            "`autograder lint` again and again, each time with fresh draws, while every core is kept busy "
            "and twice as many answers are tried at a time as there are cores:",
            "",
            "| exercise | times | verdicts | changed | from | to |",
            "|---|---:|---:|---:|---|---|",
        ]
        lines += [
            f"| `{exercise}` | {found['runs']} | {found['run']:,} | {len(found['changed'])} "
            f"| {_in_one_line(found['since'])} | {_in_one_line(found['date'])} |"
            for exercise, found in linted.items()
        ]
    return "\n".join([*lines, "", f"Measured on {data['machine']}.", ""])


def _in_one_line(date: str) -> str:
    return date.replace("-", "\N{NON-BREAKING HYPHEN}")


def keep(found: dict[str, Any], *place: str) -> None:
    """Write what a part found to its place in soak.json, beside what others have written meanwhile, and the page."""
    data = known()
    within = data
    for key in place[:-1]:
        within = within.setdefault(key, {})
    within[place[-1]] = found | {"date": _today()}
    data["machine"] = (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps(data, indent=1) + "\n")
    PAGE.write_text(page(data))


def known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {}
    return found


def known_of(exercise: str) -> dict[str, Any]:
    """What linting it again and again found so far."""
    found: dict[str, Any] = known().get("flakes", {}).get(exercise, {})
    return found


def _today() -> str:
    return datetime.date.today().isoformat()


def main() -> None:
    exercises = [e.id for e in Course(ROOT).exercises()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=[*LONG, "flakes"], help="some parts")
    parser.add_argument(
        "--lint-runs", type=int, default=50, help="lint each exercise until it was linted as often"
    )
    parser.add_argument(
        "--exercises", nargs="+", choices=exercises, default=exercises, help="for flakes: these only"
    )
    parser.add_argument("--page", action="store_true", help="make the tables from what was found before")
    asked = parser.parse_args()
    failed = 0
    for key in [] if asked.page else asked.only or [*LONG, "flakes"]:
        if key != "flakes":
            found = tests(key)
            failed += found["failed"]
            keep(found, key)
            continue
        while few := [e for e in asked.exercises if known_of(e).get("runs", 0) < asked.lint_runs]:
            for report in flakes(few):
                exercise = report["exercise"]
                before = known_of(exercise)
                found = added(report, before)
                failed += len(found["changed"]) - len(before.get("changed", []))
                keep(found, "flakes", exercise)
                print(f"{exercise}: {found['runs']} times, {len(found['changed'])} changed", flush=True)
    if asked.page:
        PAGE.write_text(page(known()))
    print(page(known()))
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
