"""Sphinx extension: what `make gpu-figures` measured, as a table in the lessons that ask for it.

Where a lesson says `<!-- gpu-figures: TOPIC -->`, its page gets that topic's table, made from book/_data/gpu.json and from
nothing else: the processor and the GPU of one machine, side by side. While nobody has measured, a sentence says so. In a
learner's own notebook the mark is a comment that nobody sees.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

DATA = Path(__file__).parents[1] / "_data/gpu.json"
MARK = re.compile(r"<!-- gpu-figures: ([a-z0-9]+) -->")
# Topic -> which of the ways to keep the training state its lesson is about; None: the table of buckets.
TOPICS: dict[str, tuple[str, ...] | None] = {
    "overlap": None,
    "zero": ("DDP", "ZeRO-1", "FSDP2, kept"),
    "zero3": ("DDP", "FSDP2, freed"),
    "fsdp2": ("DDP", "FSDP2, one unit", "FSDP2, kept", "FSDP2, freed"),
}
NOT_YET = (
    "*Nobody has measured this on a GPU yet, so there is no column for one. `make gpu-figures` measures it, on a machine "
    "that has one or more, and this page then shows them beside the processor.*"
)
ALONE = (
    "*With one GPU there is nobody to talk to: NCCL runs with a single rank, no byte leaves the device, and no state is "
    "shared out. Such a table shows what hooks, flat copies and gathering cost by themselves. It cannot show that overlap "
    "hides a network or that shards save memory; for that, take two GPUs or more.*"
)
DEVICES = ("cpu", "cuda")


def page(topic: str, figures: dict[str, Any] | None) -> str:
    """Markdown for one topic. KeyError for a topic that is not in TOPICS."""
    styles = TOPICS[topic]
    if figures is None:
        return NOT_YET
    table = _overlap(figures) if styles is None else _stages(figures, styles)
    return "\n\n".join([_measured(figures), table, *([ALONE] if figures["cuda"]["ranks"] == 1 else [])])


def _measured(figures: dict[str, Any]) -> str:
    about = figures["measured"]
    sizes = [
        f"{figures[d]['ranks']} {'rank' if figures[d]['ranks'] == 1 else 'ranks'} on {where} with "
        f"{figures[d]['size']['parameters'] / 1e6:.0f} million parameters and "
        f"{figures[d]['size']['rows'] * figures[d]['size']['length']:,} tokens each"
        for d, where in zip(DEVICES, ("the processor (gloo)", f"GPUs ({about['library']})"), strict=True)
    ]
    return (
        f"*Measured by `make gpu-figures` on {about['date']}: {about['count']} × {about['device']}, PyTorch "
        f"{about['torch']}; {' and '.join(sizes)}. The models differ in size: compare rows, not columns.*"
    )


def _overlap(figures: dict[str, Any]) -> str:
    head = ["where", "bucket", "collectives", "after backward", "launched by hooks", "hooks save"]
    lines = []
    for device in DEVICES:
        rows = figures[device]["overlap"]
        for late, early in zip(rows[::2], rows[1::2], strict=True):
            assert not late["overlap"] and early["overlap"] and late["bucket_mib"] == early["bucket_mib"]
            cap = "one for all" if late["bucket_mib"] is None else f"{late['bucket_mib']} MiB"
            saved = 1 - early["seconds"] / late["seconds"]
            lines.append(
                [_name(device), cap, str(late["collectives"]), _ms(late), _ms(early), f"{100 * saved:.0f} %"]
            )
    return _table(head, lines)


def _stages(figures: dict[str, Any], styles: tuple[str, ...]) -> str:
    head = ["where", "how the state is kept", "step", "peak memory per parameter", "sent per parameter"]
    lines = []
    for device in DEVICES:
        parameters = figures[device]["size"]["parameters"]
        rows = {row["style"]: row for row in figures[device]["stages"]}
        for style in styles:
            row = rows[style]
            memory, sent = row["peak_bytes"] / parameters, row["sent_bytes_per_parameter"]
            lines.append([_name(device), style, _ms(row), f"{memory:.1f} bytes", f"{sent:.1f} bytes"])
    return _table(head, lines)


def _name(device: str) -> str:
    return "processor" if device == "cpu" else "GPU"


def _ms(row: dict[str, Any]) -> str:
    return f"{1e3 * row['seconds']:.1f} ms"


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def add_figures(app: Sphinx, name: str, source: list[str]) -> None:
    figures = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else None
    source[0] = MARK.sub(lambda mark: page(mark[1], figures), source[0])


def read_again(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Lessons whose own text stays the same when there are new figures."""
    return [
        name for name in env.found_docs if MARK.search(Path(env.doc2path(name)).read_text(encoding="utf-8"))
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_figures)
    app.connect("env-get-outdated", read_again)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
