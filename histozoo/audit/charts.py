"""Small drawings for the page, as SVG and HTML text: bars of classes, spreads of statistics, sizes of groups."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from histozoo.audit.families import TITLES

COLOURS = (
    "#3b6fb6",
    "#d1495b",
    "#3f9b6c",
    "#e0a030",
    "#7d5ba6",
    "#3ba3b5",
    "#b0653a",
    "#8a8f99",
    "#c774b2",
    "#6b8e23",
)
"""Of the classes, in turn."""

PANELS = (
    *("stored_width", "bytes_per_pixel", "brightness", "saturation", "stain_red"),
    *("detail", "fine_share", "white_edge"),
)
"""Statistics that are drawn; those that are the same everywhere are left out."""

_WIDTH, _ROW, _HEAD, _FOOT = 219, 13, 20, 16
_SPREAD = 0.01


def class_bars(counts: Mapping[str, int], groups: Mapping[str, int]) -> str:
    """Returns one bar per class: its tiles, and its groups in words."""
    most = max([*counts.values(), 1])
    rows = [
        f'<div class="bar"><span class="word">{breakable(word)}</span><span class="track"><i style="width:{100 * n / most:.1f}%;'
        f'background:{colour(k)}"></i></span><span class="num">{n:,}</span><span class="dim">{groups.get(word, 0):,} groups</span></div>'
        for k, (word, n) in enumerate(counts.items())
    ]
    return "".join(rows)


def breakable(word: str) -> str:
    """Returns a class word as HTML that may be broken behind its underscores, and nowhere else."""
    return html.escape(word).replace("_", "_<wbr>")


def colour(k: int) -> str:
    """Returns the colour of class k."""
    return COLOURS[k % len(COLOURS)]


def spreads(statistics: Mapping[str, Mapping[str, Sequence[float]]], classes: Sequence[str]) -> str:
    """Returns a panel per statistic: for each class the median, the middle half and the middle nine tenths."""
    drawn = []
    for name in PANELS:
        points = [statistics.get(name, {}).get(word) for word in classes]
        there = [p for p in points if p]
        if there and max(p[-1] for p in there) > min(p[0] for p in there) + _SPREAD * abs(
            max(p[2] for p in there)
        ):
            drawn.append(_panel(TITLES[name], points))
    return "".join(drawn)


def _panel(title: str, points: Sequence[Sequence[float] | None]) -> str:
    there = [p for p in points if p]
    low, high = min(p[0] for p in there), max(p[-1] for p in there)
    height = _HEAD + _ROW * len(points) + _FOOT

    def x(value: float) -> str:
        return f"{4 + (_WIDTH - 8) * (value - low) / (high - low):.1f}"

    marks = []
    for k, p in enumerate(points):
        if not p:
            continue
        y = _HEAD + _ROW * k + _ROW / 2
        marks.append(
            f'<line x1="{x(p[0])}" x2="{x(p[4])}" y1="{y}" y2="{y}" stroke="{colour(k)}" stroke-opacity=".45" stroke-width="1.5"/>'
            f'<line x1="{x(p[1])}" x2="{x(p[3])}" y1="{y}" y2="{y}" stroke="{colour(k)}" stroke-width="6" stroke-opacity=".55"/>'
            f'<line x1="{x(p[2])}" x2="{x(p[2])}" y1="{y - 5}" y2="{y + 5}" stroke="{colour(k)}" stroke-width="2.5"/>'
        )
    ends = (
        f'<text x="4" y="{height - 3}" class="tick">{low:.3g}</text>'
        f'<text x="{_WIDTH - 4}" y="{height - 3}" class="tick" text-anchor="end">{high:.3g}</text>'
    )
    return (
        f'<svg class="panel" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(title)}">'
        f'<text x="4" y="12" class="title">{html.escape(title)}</text>{"".join(marks)}{ends}</svg>'
    )


def group_sizes(groups: Mapping[str, Any]) -> str:
    """Returns a sentence on the groups and a row of bars: how many tiles the groups hold, the largest first."""
    sizes = [
        size
        for size, times in sorted(groups["sizes"].items(), key=lambda item: -int(item[0]))
        for _ in range(times)
    ]
    step = max(1, len(sizes) // 60)
    shown = [int(size) for size in sizes[::step]]
    width, height = _WIDTH, 34
    bar = width / len(shown)
    bars = "".join(
        f'<rect x="{i * bar:.2f}" y="{height - height * size / max(shown):.1f}" width="{max(0.8, bar - 0.6):.2f}" '
        f'height="{height * size / max(shown):.1f}" fill="#9aa3b2"/>'
        for i, size in enumerate(shown)
    )
    one, many = f"{groups['singletons']:,} of one tile", f"{groups['largest']:,}"
    words = f"{groups['n']:,} groups, median {groups['median']:g} tiles, largest {many}, {one}"
    return f'<svg class="sizes" width="{width}" height="{height}" viewBox="0 0 {width} {height}">{bars}</svg><p class="dim">{words}</p>'
