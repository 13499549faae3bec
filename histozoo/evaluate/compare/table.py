"""Standings as files: a tidy CSV with one line per number, a JSON with everything behind them, and a table to read in a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from histozoo import durable
from histozoo.evaluate.compare.rows import Row, tidy
from histozoo.evaluate.compare.shots import FewShots
from histozoo.evaluate.compare.standings import FEWEST, Standings

HEAD = (
    "protocol", "task", "lineage", "model", "metric", "value", "low", "high", "n", "n_groups", "n_models", "seed_sd", "total_low",
    "total_high", "seen", "undefined", "fingerprint",
)  # fmt: skip
"""Columns of the CSV, fields of `standings.Row`: `low` and `high` are the ends of the 95 % interval over groups, `total_low` and
`total_high` of that over groups and seeds, empty for a single seed."""


def write(all_of: Sequence[Standings], out: Path, *, facts: Mapping[str, Any]) -> None:
    """Writes results.csv, results.json and results.txt into `out`; `facts` are JSON types that results.json begins with."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEAD, lineterminator="\n")
    writer.writeheader()
    for found in all_of:
        writer.writerows(tidy(found.rows))
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
    if found.rows:
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
    lines += _seeds(found) + _shots(found) + _differences(found) + _ranks(found)
    lines += [f"undefined and not counted: {task}, {why}" for task, why in found.undefined.items()]
    return "\n".join(lines)


def interval(value: float, low: float, high: float) -> str:
    """Returns a value with its interval, to three decimals."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _mark(row: Row) -> str:
    return {"trained on it": " *", "unknown": " ?", "new": ""}[row.seen]


def _seeds(found: Standings) -> list[str]:
    several = [row for row in found.rows if row.seed_sd is not None]
    if not several:
        return []
    lines = [
        "",
        "means over seeds: spread over seeds, and the 95 % interval for other groups and other seeds",
    ]
    return lines + [
        f"  {r.task}: {r.model}: sd {r.seed_sd:.3f} [{r.total_low:.3f}, {r.total_high:.3f}]" for r in several
    ]


def _shots(found: Standings) -> list[str]:
    if not found.shots:
        return []
    lines = [
        "",
        "tiles per class learnt from: balanced accuracy, mean of the episodes and where 95 % of them lie",
    ]
    for (task, model), several in by_model(found.shots).items():
        told = "   ".join(f"{s.shots}: {interval(s.mean, s.low, s.high)}" for s in several)
        lines.append(f"  {task}: {model}: {told}")
    return lines


def by_model(shots: Sequence[FewShots]) -> dict[tuple[str, str], list[FewShots]]:
    """Returns (task, model) -> its records."""
    found: dict[tuple[str, str], list[FewShots]] = {}
    for s in shots:
        found.setdefault((s.task, s.model), []).append(s)
    return found


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
            else ["", "no ranks: fewer than two tasks that no model is known to have been trained on"]
        )
    lines = [
        "",
        f"mean rank over {len(found.clean)} tasks that no model is known to have been trained on (1 is best)",
    ]
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
        "rows": tidy(found.rows),
        "verdicts": [asdict(v) for v in found.verdicts],
        "clean_tasks": list(found.clean),
        "clean_lineages": found.lineages,
        "ranks": None if found.podium is None else asdict(found.podium),
        "undefined": dict(found.undefined),
        "shots": [asdict(s) for s in found.shots],
    }
