"""Plots of a study as SVG that stands alone: dots with intervals, and curves over the size of the training set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from histozoo.evaluate.compare.plots import colour

_LEFT, _PLOT, _RIGHT, _LINE, _GAP, _HEAD = 250, 560, 24, 15, 11, 12
_GRID, _DIM = "#e3e6ec", "#626878"
# Curves at one size: pixels from one to the next, at most over all of them, and at most as a share of the way to the next size.
_APART, _SPREAD, _SHARE = 9.0, 24.0, 0.3


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A value with its interval.

    Args:
        place: Name of the row, such as a task; dots of one place stand together.
        series: What the colour stands for.
        value, low, high: The value and the ends of its interval.
        hollow: Marked: trained on the same lineage.
    """

    place: str
    series: str
    value: float
    low: float
    high: float
    hollow: bool = False


def forest(dots: Sequence[Dot], *, label: str, zero: bool = False, first: int = 0) -> str:
    """Returns dots with intervals, a row each, places one under the other.

    Args:
        dots: What is drawn, in order.
        label: Of the axis.
        zero: Whether a line is drawn at 0 (for differences).
        first: Colour of the first series, so that two drawings beside one another agree.
    """
    series = list(dict.fromkeys(d.series for d in dots))
    ends = [*(d.low for d in dots), *(d.high for d in dots), *([0.0] if zero else [])]
    axis = _Axis.over(min(ends), max(ends), _LEFT, _LEFT + _PLOT)
    marks, y = [], _HEAD + 20.0 * math.ceil(len(series) / 2)
    top = y
    for place in dict.fromkeys(d.place for d in dots):
        rows = [d for d in dots if d.place == place]
        marks.append(_words(_LEFT - 10, y + _LINE * len(rows) / 2 + 4, place, anchor="end"))
        for dot in rows:
            marks.append(_dot(dot, colour(first + series.index(dot.series)), axis, y + _LINE / 2))
            y += _LINE
        y += _GAP
    grid = [_upright(axis.at(v), top, y, f"{v:g}") for v in axis.ticks]
    if zero:
        x = axis.at(0)
        grid.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y:.1f}" stroke="{_DIM}" stroke-width="1.5"/>'
        )
    marks.append(_words(_LEFT + _PLOT / 2, y + 32, label, anchor="middle"))
    return _page(_LEFT + _PLOT + _RIGHT, y + 42, [*grid, *_key(series, first), *marks], label)


def curves(
    lines: Mapping[str, Sequence[tuple[int, float, float, float]]],
    *,
    label: str,
    below: str,
    floor: tuple[float, str] | None = None,
) -> str:
    """Returns a curve with a band per series over sizes on a scale of doublings; series stand a little beside one another at each size.

    Args:
        lines: Series -> (size, value, low, high), sizes ascending.
        label: Of the upright axis.
        below: Of the level axis.
        floor: A value to be seen beside the curves, drawn as a broken line, and its name.
    """
    series = list(lines)
    points = [p for line in lines.values() for p in line]
    top, bottom, left, right = _HEAD + 20.0 * math.ceil(len(series) / 2) + 16, 330.0, 64.0, 700.0
    ends = [*(p[2] for p in points), *(p[3] for p in points), *([floor[0]] if floor else [])]
    axis = _Axis.over(min(ends), max(ends), bottom, top)
    sizes = sorted({p[0] for p in points})
    span = math.log2(sizes[-1] / sizes[0]) or 1.0
    x_of = {s: left + 30 + (right - left - 60) * math.log2(s / sizes[0]) / span for s in sizes}
    marks = [_level(axis.at(v), left, right, f"{v:g}") for v in axis.ticks]
    if floor:
        marks.append(_broken(axis.at(floor[0]), left, right, floor[1]))
    marks += [_words(x, bottom + 18, f"{s:,}", anchor="middle", dim=True) for s, x in x_of.items()]
    apart = _apart(len(series), list(x_of.values()))
    for i, line in enumerate(lines.values()):
        shifted = [(x_of[s] + apart * (i - (len(series) - 1) / 2), *map(axis.at, rest)) for s, *rest in line]
        path = " ".join(f"{x:.1f},{v:.1f}" for x, v, _, _ in shifted)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour(i)}" stroke-width="1.5"/>')
        marks += [_bar(x, v, low, high, colour(i)) for x, v, low, high in shifted]
    marks += [
        _words((left + right) / 2, bottom + 38, below, anchor="middle"),
        _words(6, top - 8, label, anchor="start"),
    ]
    return _page(right + _RIGHT, bottom + 48, [*_key(series), *marks], label)


# -- parts -----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    first: float
    last: float
    step: float

    @classmethod
    def over(cls, low: float, high: float, first: float, last: float) -> _Axis:
        step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if high - low <= 8 * s), 1.0)
        start, end = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
        return cls(start, end if end > start else start + step, first, last, step)

    @property
    def ticks(self) -> list[float]:
        return [
            round(self.low + self.step * i, 6) for i in range(round((self.high - self.low) / self.step) + 1)
        ]

    def at(self, value: float) -> float:
        return self.first + (self.last - self.first) * (value - self.low) / (self.high - self.low)


def _apart(series: int, xs: Sequence[float]) -> float:
    """Returns how far neighbouring series are shifted so that their bars can be told apart, and a point still belongs to its size."""
    widest = min([_SPREAD, *(_SHARE * (b - a) for a, b in pairwise(xs))])
    return min(_APART, widest / max(1, series - 1))


def _dot(dot: Dot, ink: str, axis: _Axis, y: float) -> str:
    x, left, right = (axis.at(v) for v in (dot.value, dot.low, dot.high))
    said = escape(f"{dot.series}, {dot.place}: {dot.value:.3f}, from {dot.low:.3f} to {dot.high:.3f}")
    return (
        f'<g><title>{said}</title><line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{ink}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{"#fff" if dot.hollow else ink}" stroke="{ink}" stroke-width="1.5"/></g>'
    )


def _bar(x: float, v: float, low: float, high: float, ink: str) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{ink}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{v:.1f}" r="4" fill="{ink}"/>'
    )


def _upright(x: float, top: float, bottom: float, word: str) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{_GRID}"/>'
    return line + _words(x, bottom + 14, word, anchor="middle", dim=True)


def _level(y: float, left: float, right: float, word: str) -> str:
    line = f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>'
    return line + _words(left - 8, y + 4, word, anchor="end", dim=True)


def _broken(y: float, left: float, right: float, word: str) -> str:
    line = f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_DIM}" stroke-dasharray="5 4"/>'
    return line + _words((left + right) / 2, y - 5, word, anchor="middle", dim=True)


def _words(x: float, y: float, word: str, *, anchor: str, dim: bool = False) -> str:
    ink = f' fill="{_DIM}"' if dim else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{ink}>{escape(word)}</text>'


def _key(series: Sequence[str], first: int = 0) -> list[str]:
    """Returns the legend, two names to a line."""
    marks = []
    for i, name in enumerate(series):
        x, y = 14 + 400 * (i % 2), _HEAD + 4 + 20 * (i // 2)
        marks.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{colour(first + i)}"/>')
        marks.append(_words(x + 12, y + 4, name, anchor="start"))
    return marks


def _page(width: float, height: float, marks: Sequence[str], label: str) -> str:
    box = f"0 0 {width:.0f} {height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{width:.0f}" style="max-width:100%;height:auto" '
        f'font-family="system-ui, DejaVu Sans, sans-serif" font-size="12" fill="#1d1f27" role="img" aria-label="{escape(label)}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(marks)}</svg>\n'
    )
