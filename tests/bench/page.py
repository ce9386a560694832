"""The book's page about speed: book/bench.md and its figures, made from book/_data/bench.json and from nothing else.

python -m tests.bench.page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench import runs
from tests.bench.drawing import Bar, Curve, bars, curves, number

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "book" / "_data" / "bench.json"
TIMES_NBGRADER = 15  # what we want to be, in submissions per hour
FLAT = 1.1  # memory and seconds per submission, at most this much more with ten times the submissions

NAMES = {
    "autograder grade": "autograder, sandboxed",
    "nbgrader autograde": "nbgrader",
    "otter run": "otter run",
    "otter.api": "otter, from Python",
}
TITLES = {"trivial": "Two trivial notebooks", "ranks": "One exercise with 4 ranks"}

Found = dict[str, Any]
Row = dict[str, Any]


def amount(size: float) -> str:
    """Bytes in words: 123 MB, 1.07 GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def each(row: Row, key: str = "wall_s") -> float:
    """Seconds per submission."""
    return row[key] / row["count"]


def publish(found: Found) -> list[Path]:
    """Put `found` into the book: the data, and the page and figures that code makes of it."""
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps(found, indent=1) + "\n")
    return [DATA, *write()]


def write() -> list[Path]:
    """Write the page and the figures again from the committed data."""
    made = files(json.loads(DATA.read_text()))
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return list(made)


def files(found: Found) -> dict[Path, str]:
    """Path → text of everything that is made from the data."""
    book = ROOT / "book"
    return {
        book / "bench.md": _page(found),
        book / "figures" / "bench-side-by-side.svg": _side_by_side_figure(found),
        book / "figures" / "bench-scaling.svg": _scaling_figure(found),
    }


def missed(found: Found) -> list[str]:
    """What did not reach its goal, a line each."""
    lines = []
    for figure in found["own"]:
        sense, _, bound = figure["goal"].partition(" ")
        good = not sense or (
            figure["value"] <= float(bound) if sense == "≤" else figure["value"] >= float(bound)
        )
        if not good:
            lines.append(
                f"{figure['what']}: {number(figure['value'])} {figure['unit']}, goal {figure['goal']}"
            )
    faster = _times(found, "nbgrader autograde")
    if faster is not None and faster < TIMES_NBGRADER:
        lines.append(f"nbgrader's throughput: {number(faster)} ×, goal ≥ {TIMES_NBGRADER}")
    rows = found["scaling"]
    for before, after in zip(rows[1:], rows[2:], strict=False):
        if after["peak_bytes"] > FLAT * before["peak_bytes"]:
            lines.append(
                f"memory at {after['count']} submissions is {after['peak_bytes'] / before['peak_bytes']:.2f} "
                f"times that at {before['count']}"
            )
        if each(after, "cpu_s") > FLAT * each(before, "cpu_s"):
            lines.append(
                f"CPU seconds per submission at {after['count']} are {each(after, 'cpu_s') / each(before, 'cpu_s'):.2f} "
                f"times those at {before['count']}"
            )
    return lines


def _of(found: Found, work: str) -> list[Row]:
    return [row for row in found["side_by_side"] if row["work"] == work]


def _common(rows: list[Row]) -> int:
    """The largest number of submissions that everybody who was measured has graded."""
    counts = [{row["count"] for row in rows if row["way"] == way} for way in {row["way"] for row in rows}]
    return max(set.intersection(*counts), default=0) if counts else 0


def _times(found: Found, way: str, work: str = "trivial") -> float | None:
    """How many times as many submissions we grade as `way` does in the same time; None where it was not measured."""
    rows = _of(found, work)
    shared = {row["count"] for row in rows if row["way"] == way}
    if not shared:
        return None
    mine, theirs = (
        next(row for row in rows if row["way"] == w and row["count"] == max(shared))
        for w in ("autograder grade", way)
    )
    return each(theirs) / each(mine)


# --- the page ----------------------------------------------------------------------------------------


def _page(found: Found) -> str:
    box = found["machine"]
    versions = ", ".join(f"{name} {number_}" for name, number_ in found["versions"].items())
    others = max(row["others"] for row in [*found["side_by_side"], *found["scaling"]])
    busy = (
        f" Other programs kept up to {others:.1f} of the {box['cores']} cores busy meanwhile, so wall seconds are longer than on "
        "an idle machine; CPU seconds hardly are."
        if others > 0.1 * box["cores"]
        else f" Other programs used at most {others:.1f} cores meanwhile."
    )
    short = " This was a short run (`BENCH=--quick`): few submissions." if found["quick"] else ""
    return f"""<!-- Written by `python -m tests.bench.page` from book/_data/bench.json. Do not edit: run `make bench`. -->

# How fast grading is

`make bench` measures everything on this page on your machine; what is compared, in one run. What stands here was measured on
{" and ".join(sorted(set(found["dates"].values())))}: {box["cpu"]}, {box["cores"]} cores, {amount(box["memory_bytes"])} of memory, {box["system"]};
{versions}.{busy}{short}

## Side by side

The same notebooks, graded by three programs, one after the other. Each is used as its own guide says, from its command
line, and asked only for grades; every answer is right, and a run counts only when every submission got full marks.

```{{figure}} figures/bench-side-by-side.svg
:alt: {_side_by_side_words(found)}

Seconds per submission; shorter is better. The tables below hold the same figures and more.
```

{_side_by_side_sentence(found)}

{_tables(found)}
**Seconds** are wall-clock seconds from the start of the command to its end, divided by the number of submissions.
What takes less than {runs.SHORT_S:.0f} seconds is run three times, by whomever it is graded, and the run of the median time stands here.
**CPU seconds** are the kernel's sum over the command and every process below it, also divided. **Peak memory** is the
largest sum over all processes at one moment, where a page that several processes share counts once; it is looked at ten
times a second.

- `autograder grade` runs {found["jobs"]} workers, one for each core, each submission in its [sandbox](security.md). Its time includes
  the feedback page of each learner and the report. What optimizers need of PyTorch is loaded once for a course that has to do
  with them, which takes about a second; this one has not.
- `nbgrader autograde` is one command for all submissions. `otter run` grades one notebook per command; {found["jobs"]} of them run at
  a time. "otter, from Python" calls `otter.api.grade_submission` in a loop in {found["jobs"]} processes, so that imports are paid once.
- Two trivial notebooks: add two numbers; the largest of a list. They show what a tool costs by itself.
- The exercise with 4 ranks: the mean of a tensor of 1,025 elements over 4 gloo ranks. Where tests are cells, the test cell
  writes the learner's function into a program that `torchrun` starts 4 times. Every
  rank then imports PyTorch, which is most of the time. Ours forks ranks from a process that has it already.

## Many submissions

One trivial notebook per submission, graded by `autograder grade` with {found["jobs"]} workers. Starting takes some seconds. After
that: {_further(found)}.

```{{figure}} figures/bench-scaling.svg
:alt: {_scaling_words(found)}

What a submission costs, and the memory of grader, workers and sandboxes together.
```

| submissions | seconds in all | seconds each | CPU seconds each | peak memory |
|--:|--:|--:|--:|--:|
{_scaling_rows(found)}

## One at a time

In one process, with a warm sandbox: what a learner waits for, and what one core does.

| what | measured | goal |
|---|--:|--:|
{_own_rows(found)}

Median of several runs, except for the first two.
"""


def _side_by_side_sentence(found: Found) -> str:
    said = []
    for work, title in TITLES.items():
        parts = [
            f"{number(times)} times as many as `{way}`"
            for way in ("nbgrader autograde", "otter run")
            if (times := _times(found, way, work)) is not None
        ]
        if parts:
            count = _common(_of(found, work))
            said.append(
                f"{title}, {count} submissions: `autograder grade` does {' and '.join(parts)} in the same time."
            )
    return "\n".join(said)


def _tables(found: Found) -> str:
    text = ""
    for work, title in TITLES.items():
        text += f"### {title}\n\n| graded by | submissions | seconds each | CPU seconds each | peak memory |\n|---|--:|--:|--:|--:|\n"
        rows = _of(found, work)
        for way, name in NAMES.items():
            mine = [row for row in rows if row["way"] == way]
            for row in mine:
                text += (
                    f"| {name} | {row['count']} | {number(each(row))} | {number(each(row, 'cpu_s'))} | "
                    f"{amount(row['peak_bytes'])} |\n"
                )
            if not mine:
                text += f"| {name} | | not measured | | |\n"
        text += "\n"
    return text


def _further(found: Found) -> str:
    rows = found["scaling"]
    return "; ".join(
        f"from {a['count']:,} to {b['count']:,}, each further one took "
        f"{number((b['wall_s'] - a['wall_s']) / (b['count'] - a['count']))} s"
        for a, b in zip(rows, rows[1:], strict=False)
    )


def _scaling_rows(found: Found) -> str:
    return "\n".join(
        f"| {row['count']:,} | {number(row['wall_s'])} | {number(each(row))} | {number(each(row, 'cpu_s'))} | "
        f"{amount(row['peak_bytes'])} |"
        for row in found["scaling"]
    )


def _own_rows(found: Found) -> str:
    return "\n".join(
        f"| {figure['what']} | {number(figure['value'])} {figure['unit']} | {figure['goal'] and figure['goal'] + ' ' + figure['unit']} |"
        for figure in found["own"]
    )


# --- the figures, and what they say in words -----------------------------------------------------------


def _groups(found: Found) -> list[tuple[str, list[Bar]]]:
    groups = []
    for work, title in TITLES.items():
        rows = _of(found, work)
        count = _common(rows)
        group = [
            Bar(name, each(row), way == "autograder grade")
            for way, name in NAMES.items()
            for row in rows
            if row["way"] == way and row["count"] == count
        ]
        if group:
            groups.append((f"{title}, {count} submissions", group))
    return groups


def _side_by_side_words(found: Found) -> str:
    return " ".join(
        f"{heading}, seconds each: " + "; ".join(f"{bar.label} {number(bar.value)}" for bar in group) + "."
        for heading, group in _groups(found)
    )


def _side_by_side_figure(found: Found) -> str:
    words = _side_by_side_words(found)
    return bars("Seconds per submission, by grader", words, _groups(found), "s")


def _scaling_words(found: Found) -> str:
    return (
        "Over "
        + ", ".join(f"{row['count']:,}" for row in found["scaling"])
        + " submissions: seconds each "
        + ", ".join(number(each(row)) for row in found["scaling"])
        + "; peak memory "
        + ", ".join(amount(row["peak_bytes"]) for row in found["scaling"])
        + "."
    )


def _scaling_figure(found: Found) -> str:
    rows = found["scaling"]
    return curves(
        "What a submission costs, over the number of submissions",
        _scaling_words(found),
        [
            Curve("Seconds per submission", [(row["count"], each(row)) for row in rows]),
            Curve("Peak memory (MB)", [(row["count"], row["peak_bytes"] / 1e6) for row in rows]),
        ],
        "submissions",
    )


if __name__ == "__main__":
    for path in write():
        print(f"written to {path.relative_to(ROOT)}")
