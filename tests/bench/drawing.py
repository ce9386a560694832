"""Small charts as SVG: real text, a title and a description inside, no colour that carries meaning alone."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

WIDTH = 760
OURS, OTHERS, INK, RULE = "#0072B2", "#6B6B6B", "#1A1A1A", "#D0D0D0"


def number(value: float) -> str:
    """Three digits, as far as they say something: 123, 12.3, 1.23, 0.123."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}"


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    ours: bool


def bars(title: str, description: str, groups: list[tuple[str, list[Bar]]], unit: str) -> str:
    """Groups of horizontal bars from zero, each with its label before and its value behind it."""
    left, right, row, top = 210, 90, 26, 14
    parts: list[str] = []
    y = top
    for heading, group in groups:
        most = max(bar.value for bar in group)
        y += 20
        parts.append(_text(10, y, heading, weight="bold"))
        y += 12
        for bar in group:
            width = max(1.0, (WIDTH - left - right) * bar.value / most)
            colour = OURS if bar.ours else OTHERS
            parts.append(_text(left - 8, y + 17, bar.label, anchor="end"))
            parts.append(
                f'<rect x="{left}" y="{y + 3}" width="{width:.1f}" height="{row - 6}" fill="{colour}"/>'
            )
            parts.append(_text(left + width + 6, y + 17, f"{number(bar.value)} {unit}"))
            y += row
        y += 10
    return _svg(title, description, y + 6, parts)


@dataclass(frozen=True)
class Curve:
    """Values over counts, drawn in a panel of its own with an axis from zero."""

    heading: str
    points: list[tuple[int, float]]


def curves(title: str, description: str, panels: list[Curve], across: str) -> str:
    """Panels side by side; counts on a logarithmic axis, every point with its value beside it."""
    import math

    gap, top, height, bottom = 60, 52, 150, 54
    wide = (WIDTH - gap * (len(panels) + 1)) / len(panels)
    parts: list[str] = []
    for i, panel in enumerate(panels):
        x0 = gap + i * (wide + gap)
        low, high = math.log10(panel.points[0][0]), math.log10(panel.points[-1][0])
        most = 1.35 * max(value for _, value in panel.points)
        places = [
            (x0 + wide * (math.log10(n) - low) / max(high - low, 1e-9), top + height * (1 - value / most), n, value)
            for n, value in panel.points
        ]  # fmt: skip
        parts.append(_text(x0 - 20, 26, panel.heading, weight="bold"))
        base = top + height
        parts.append(f'<path d="M{x0 - 20:.1f} {base}H{x0 + wide + 20:.1f}" stroke="{RULE}" fill="none"/>')
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in places)
        parts.append(f'<path d="M{line}" stroke="{OURS}" stroke-width="2" fill="none"/>')
        for x, y, n, value in places:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{OURS}"/>')
            parts.append(_text(x, y - 10, number(value), anchor="middle", halo=True))
            parts.append(_text(x, base + 18, f"{n:,}", anchor="middle"))
        parts.append(_text(x0 + wide / 2, base + 38, across, anchor="middle"))
    return _svg(title, description, top + height + bottom, parts)


def _text(
    x: float, y: float, words: str, anchor: str = "start", weight: str = "normal", halo: bool = False
) -> str:
    """halo: a rim in the colour of the ground, so that words on a line can be read."""
    rim = ' paint-order="stroke" stroke="#FFFFFF" stroke-width="5"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{INK}"{rim}>'
        f"{escape(words)}</text>"
    )


def _svg(title: str, description: str, height: float, parts: list[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        'aria-labelledby="title desc" font-family="system-ui, sans-serif" font-size="14">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(description)}</desc>',
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#FFFFFF"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
