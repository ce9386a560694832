"""Draw a run as a timeline: one row per rank, one bar per collective, with its text for those who cannot see it."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aboard.ranks.call import Run

# Okabe and Ito's palette, told apart by the colour-blind; hatches tell apart what is printed in grey.
STYLES = [
    ("#0072B2", ""),
    ("#E69F00", "//"),
    ("#009E73", "\\\\"),
    ("#CC79A7", "xx"),
    ("#56B4E9", ".."),
    ("#D55E00", "++"),
]


class Timeline:
    """A matplotlib figure that a notebook shows as SVG, with its description inside."""

    def __init__(self, figure: Any, title: str, description: str) -> None:
        self.figure, self.title, self.description = figure, title, description

    def _repr_svg_(self) -> str:
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        text = buffer.getvalue()
        head, tail = text[text.index("<svg") :].split(">", 1)
        label = f"<title>{escape(self.title)}</title><desc>{escape(self.description)}</desc>"
        return f'{head} role="img">{label}{tail}'

    def savefig(self, path: Any, **options: Any) -> None:
        self.figure.savefig(path, bbox_inches="tight", **options)

    def __repr__(self) -> str:
        return f"{self.title}: {self.description}"


def draw(run: Run, title: str = "") -> Timeline:
    """The timeline of `run`. Bars go from the call to its completion; what never completed runs to the edge."""
    from matplotlib.figure import Figure

    title = title or f"{run.world_size} ranks"
    last = max((c.end or c.start for rank in run.collectives for c in rank), default=run.seconds) or 1e-3
    ops = list(dict.fromkeys(c.op for rank in run.collectives for c in rank))
    figure = Figure(figsize=(8, 0.6 + 0.42 * max(2, len(run.collectives))))
    axes = figure.subplots()
    for rank, collectives in enumerate(run.collectives):
        for one in collectives:
            colour, hatch = STYLES[ops.index(one.op) % len(STYLES)]
            # A rank often waits in recv while its send is on the way: half a row each keeps both in sight.
            shift = {"send": -0.2, "recv": 0.2}.get(one.op, 0.0)
            height = 0.38 if shift else 0.78
            width = (one.end if one.end is not None else last) - one.start
            axes.barh(rank + shift, 1e3 * max(width, last / 400), height, 1e3 * one.start, color=colour, hatch=hatch,
                      edgecolor="white", linewidth=0.4)  # fmt: skip
    for op in ops:
        colour, hatch = STYLES[ops.index(op) % len(STYLES)]
        axes.barh(0, 0, color=colour, hatch=hatch, edgecolor="white", label=op.replace("_", "-"))
    axes.set_yticks(range(len(run.collectives)), [f"rank {r}" for r in range(len(run.collectives))])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds since go")
    axes.set_title(title, loc="left", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if ops:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return Timeline(figure, title, describe(run))


def describe(run: Run) -> str:
    """The timeline in words: "4 ranks in 12.3 ms; each: 6 send, 6 recv"."""
    counts = []
    for collectives in run.collectives:
        ops = [c.op for c in collectives]
        counts.append(
            ", ".join(f"{ops.count(op)} {op.replace('_', '-')}" for op in dict.fromkeys(ops))
            or "no communication"
        )
    start = f"{run.world_size} rank{'s' * (run.world_size != 1)} in {1e3 * run.seconds:.1f} ms"
    if len(set(counts)) == 1 and counts:
        return f"{start}; each: {counts[0]}."
    return f"{start}; " + "; ".join(f"rank {r}: {text}" for r, text in enumerate(counts)) + "."
