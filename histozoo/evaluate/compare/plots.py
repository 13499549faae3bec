"""Standings as a drawing: per task one line per model, its value as a dot, its interval as a bar. SVG as text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from histozoo.evaluate.compare.rows import Row
from histozoo.evaluate.compare.standings import Standings

# Okabe and Ito (2008): colours that people with colour blindness can tell apart, yellow and black left out on white; where they do not
# suffice, five of Paul Tol's muted scheme (SRON/EPS/TN/09-002).
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666"),
    *("#332288", "#882255", "#999933", "#88CCEE", "#661100"),
)
_LEFT, _RIGHT, _PLOT, _LINE, _GAP, _HEAD = 190, 20, 620, 14, 10, 8


def colour(i: int) -> str:
    """Returns the colour of model i."""
    return COLOURS[i % len(COLOURS)]


def intervals(found: Standings, models: Sequence[str]) -> str:
    """Returns the drawing; hollow dots stand for models that were trained on the task's lineage, pale ones where nobody knows.

    Args:
        found: What to draw.
        models: All models of the page, in the order of their colours.
    """
    if not found.rows:
        return ""
    low, high = _ends(found.rows)
    tasks = list(dict.fromkeys(row.task for row in found.rows))
    marks, y = [], float(_HEAD)
    for task in tasks:
        rows = [row for row in found.rows if row.task == task]
        height = _LINE * len(rows)
        marks.append(
            f'<text x="{_LEFT - 10}" y="{y + height / 2 + 4:.1f}" text-anchor="end">{escape(task)}</text>'
        )
        if rows[0].chance is not None and low <= rows[0].chance <= high:
            marks.append(_guessing(rows[0].chance, y, height, low, high))
        for k, row in enumerate(rows):
            marks.append(_mark(row, colour(models.index(row.model)), y + _LINE * (k + 0.5), low, high))
        y += height + _GAP
    grid = "".join(_tick(v, y, low, high) for v in _ticks(low, high))
    width, tall = _LEFT + _PLOT + _RIGHT, y + 22
    return (
        f'<svg viewBox="0 0 {width} {tall:.0f}" width="{width}" style="max-width:100%;height:auto" role="img" '
        f'aria-label="{escape(found.metric)} by task and model">{grid}{"".join(marks)}</svg>'
    )


def _mark(row: Row, ink: str, y: float, low: float, high: float) -> str:
    x, left, right = (_x(v, low, high) for v in (row.value, row.low, row.high))
    fill = "#fff" if row.seen == "trained on it" else ink
    pale = ' fill-opacity="0.35"' if row.seen == "unknown" else ""
    said = f"{row.model} on {row.task}: {row.value:.3f}, from {row.low:.3f} to {row.high:.3f}"
    return (
        f'<g><title>{escape(said)}</title><line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{ink}" '
        f'stroke-width="2"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}"{pale} stroke="{ink}" stroke-width="1.5"/></g>'
    )


def _guessing(chance: float, y: float, height: float, low: float, high: float) -> str:
    x = _x(chance, low, high)
    return (
        f'<g><title>guessing: {chance:.3f}</title><line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + height:.1f}" stroke="#8a90a0" '
        'stroke-width="1.5" stroke-dasharray="3 3"/></g>'
    )


def _tick(value: float, bottom: float, low: float, high: float) -> str:
    x = _x(value, low, high)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD}" y2="{bottom:.1f}" stroke="#e3e6ec"/>'
        f'<text class="tick" x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{value:g}</text>'
    )


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + _PLOT * (value - low) / (high - low)


def _ends(rows: Sequence[Row]) -> tuple[float, float]:
    """Returns ends on whole tenths, or finer where everything lies close together."""
    # A value may lie outside its own interval: calibration errors of resamples are larger.
    chances = [row.chance for row in rows if row.chance is not None]
    low = min([*chances, *(min(row.low, row.value) for row in rows)])
    high = max(max(row.high, row.value) for row in rows)
    step = _step(high - low)
    first, last = step * (low // step), -step * (-high // step)
    return (first, last) if last > first else (first - step, first + step)


def _step(span: float) -> float:
    return next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if span <= 8 * s), 1.0)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(high - low)
    return [round(low + step * i, 6) for i in range(round((high - low) / step) + 1)]
