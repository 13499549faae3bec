"""Standings as files: a tidy CSV with one line per number, a JSON with everything behind them, and a table to read in a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from histozoo import durable
from histozoo.evaluate.compare.standings import FEWEST, Row, Standings, tidy

HEAD = (
    "protocol", "task", "lineage", "model", "metric", "value", "low", "high", "n", "n_groups", "n_models", "seen", "undefined",
    "fingerprint",
)  # fmt: skip
"""Columns of the CSV; `low` and `high` are the ends of the 95 % interval over groups."""


def write(all_of: Sequence[Standings], out: Path, *, facts: Mapping[str, Any]) -> None:
    """Writes results.csv, results.json and results.txt into `out`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEAD, lineterminator="\n")
    writer.writeheader()
    for found in all_of:
        writer.writerows(tidy(found))
    durable.write_text(out / "results.csv", text.getvalue())
    durable.write_json(
        out / "results.json", {"schema": 1, **facts, "standings": [_json(found) for found in all_of]}
    )
    durable.write_text(out / "results.txt", "\n\n".join(map(table, all_of)) + "\n")


def table(found: Standings) -> str:
    """Returns standings as plain text: a line per task and model, then the paired differences, then ranks."""
    wide = max([len(m) for m in found.models] + [5])
    tall = max([len(row.task) for row in found.rows] + [4])
    direction = "higher is better" if found.higher_is_better else "lower is better"
    lines = [f"{found.metric} by {found.protocol} ({direction}), 95 % intervals over groups", ""]
    lines.append(f"{'task':<{tall}}  {'tiles':>6} {'groups':>6}  {'model':<{wide}}  value")
    before = ""
    for row in found.rows:
        head = (
            f"{row.task:<{tall}}  {row.n:>6} {row.n_groups:>6}" if row.task != before else " " * (tall + 15)
        )
        lines.append(f"{head}  {row.model:<{wide}}  {interval(row.value, row.low, row.high)}{_mark(row)}")
        before = row.task
    if any(row.seen != "new" for row in found.rows):
        lines += ["", "*  trained on this lineage: told, not ranked   ?  not known whether it was"]
    lines += _differences(found) + _ranks(found)
    lines += [f"undefined and not counted: {task}, {why}" for task, why in found.undefined.items()]
    return "\n".join(lines)


def interval(value: float, low: float, high: float) -> str:
    """Returns a value with its interval, to three decimals."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _mark(row: Row) -> str:
    return {"trained on it": " *", "unknown": " ?", "new": ""}[row.seen]


def _differences(found: Standings) -> list[str]:
    if not found.verdicts:
        return []
    lines = [
        "",
        f"{found.models[0]} minus the others; p after Holm's correction over {len(found.verdicts)} comparisons",
    ]
    for v in found.verdicts:
        said = f"{v.difference:+.3f} [{v.low:+.3f}, {v.high:+.3f}]"
        lines.append(
            f"  {v.task}: {v.second}: {said}, p {v.p_holm:.4f}, {v.outcome}; would have shown {v.detectable:.3f}"
        )
    return lines


def _ranks(found: Standings) -> list[str]:
    if found.podium is None:
        return (
            []
            if len(found.models) == 1
            else ["", "no ranks: fewer than two tasks that no model was trained on"]
        )
    lines = ["", f"mean rank over {len(found.clean)} tasks that no model was trained on (1 is best)"]
    lines += [f"  {s.model}: {interval(s.rank, s.low, s.high)}" for s in found.podium.standings]
    return [*lines, f"  better than every other: {crowned(found)}"]


def crowned(found: Standings) -> str:
    """Returns who is better than every other over tasks, or why nobody is."""
    assert found.podium is not None
    if found.lineages < FEWEST:
        return f"no winner; {found.lineages} lineages are too few to tell, {FEWEST} the fewest"
    return found.podium.outcome


def _json(found: Standings) -> dict[str, Any]:
    return {
        "protocol": found.protocol,
        "metric": found.metric,
        "higher_is_better": found.higher_is_better,
        "models": list(found.models),
        "rows": tidy(found),
        "verdicts": [asdict(v) for v in found.verdicts],
        "clean_tasks": list(found.clean),
        "clean_lineages": found.lineages,
        "ranks": None if found.podium is None else asdict(found.podium),
        "undefined": found.undefined,
    }
