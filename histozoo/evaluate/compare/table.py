"""Standings and looks as files: a tidy table with one line per number (CSV, Parquet), a JSON with all behind them, a table to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from histozoo import durable
from histozoo.evaluate.compare import looking
from histozoo.evaluate.compare.looking import Looked
from histozoo.evaluate.compare.plan import SLIDES
from histozoo.evaluate.compare.rows import SEEN, Row, tidy
from histozoo.evaluate.compare.shots import FewShots
from histozoo.evaluate.compare.standings import FEWEST, Standings
from histozoo.evaluate.few_groups import FEWEST as FEWEST_GROUPS
from histozoo.evaluate.few_groups import NOT_CALLED
from histozoo.evaluate.verdicts import Verdict

HEAD = (
    "protocol", "task", "lineage", "model", "setting", "metric", "value", "low", "high", "n", "n_groups", "n_models", "seed_sd",
    "total_low", "total_high", "seen", "undefined", "fingerprint", "note", "minus", "p_holm", "detectable", "outcome", "chance",
)  # fmt: skip
"""Columns of the CSV and the Parquet file, one number a line. `low` and `high` are the ends of the 95 % interval over groups (for `shots`,
of the central 95 % of the draws), `total_low` and `total_high` of that over groups and seeds, empty for a single seed; `setting` says of
which stage, change or number of shots a number is, where a protocol has several; `seen` whether the model was trained on the lineage;
`chance` what guessing gives. Where `minus` names another model, `value` is the difference from it, with what `Verdict` says; mean ranks
have the metric `mean_rank_by_...`."""

_WHOLE = ("n", "n_groups", "n_models", "undefined")
_REAL = ("value", "low", "high", "seed_sd", "total_low", "total_high", "p_holm", "detectable", "chance")


def write(
    all_of: Sequence[Standings], out: Path, *, facts: Mapping[str, Any], looked: Sequence[Looked] = ()
) -> None:
    """Writes results.csv, .parquet, .json and .txt into `out`; `facts` are JSON types that results.json begins with."""
    records = [
        r for found in all_of for r in [*tidy(found.rows), *_few(found), *_compared(found), *_ranked(found)]
    ]
    records += looking.tidy(looked)
    text = io.StringIO()
    writer = csv.DictWriter(text, HEAD, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    durable.write_text(out / "results.csv", text.getvalue())
    durable.write_bytes(out / "results.parquet", _parquet(records))
    told = {"standings": [_json(found) for found in all_of], "looks": [_look(found) for found in looked]}
    durable.write_json(out / "results.json", {"schema": 1, **facts, **told})
    texts = [*map(table, all_of), *map(looking.text, looked)]
    durable.write_text(out / "results.txt", "\n\n".join(texts) + "\n")


def _few(found: Standings) -> list[dict[str, Any]]:
    """Returns what each number of shots gave as records; their spread is over draws, not over groups."""
    of = {(row.task, row.model): row for row in found.rows}
    told = []
    for s in found.shots:
        row = of[s.task, s.model]
        same = ("protocol", "task", "lineage", "model", "n", "n_groups", "n_models", "seen", "fingerprint")
        numbers = {"value": s.mean, "low": s.low, "high": s.high}
        told.append(
            {name: getattr(row, name) for name in same}
            | {name: round(value, 6) for name, value in numbers.items()}
            | {"setting": f"shots {s.shots}", "metric": f"{found.metric}_over_draws"}
            | {"note": found.shots_left_out.get(s.task, "")}
        )
    return told


def _compared(found: Standings) -> list[dict[str, Any]]:
    """Returns the paired differences as records."""
    of = {(row.task, row.model): row for row in found.rows}
    told = []
    for v in found.verdicts:
        row, other = of[v.task, v.first], of[v.task, v.second]
        same = ("protocol", "task", "lineage", "metric", "n", "n_groups", "fingerprint")
        numbers = {
            "value": v.difference,
            "low": v.low,
            "high": v.high,
            "p_holm": v.p_holm,
            "detectable": v.detectable,
        }
        told.append(
            {name: getattr(row, name) for name in same}
            | {name: None if number is None else round(number, 6) for name, number in numbers.items()}
            | {"model": v.first, "minus": v.second, "outcome": v.outcome, "undefined": v.undefined}
            | {"seen": next((r.seen for r in (row, other) if r.seen != SEEN[False]), SEEN[False])}
        )
    return told


def _ranked(found: Standings) -> list[dict[str, Any]]:
    """Returns mean ranks as records."""
    place = {"protocol": found.protocol, "task": f"mean over {len(found.clean)} tasks", "seen": SEEN[False]}
    place["metric"] = f"mean_rank_by_{found.metric}"
    return [
        place
        | {"model": s.model, "value": round(s.rank, 6), "low": round(s.low, 6), "high": round(s.high, 6)}
        for s in (found.podium.standings if found.podium else ())
    ]


def _parquet(records: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    kinds = {**dict.fromkeys(_WHOLE, pa.int64()), **dict.fromkeys(_REAL, pa.float64())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in HEAD])
    columns = {name: [record.get(name) for record in records] for name in HEAD}
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns, schema=schema), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _look(found: Looked) -> dict[str, Any]:
    return {
        "protocol": found.protocol,
        "first": found.first,
        "rows": looking.tidy([found]),
        "undefined": dict(found.undefined),
    }


def table(found: Standings) -> str:
    """Returns standings as plain text: a line per task and model, then the paired differences, then ranks."""
    wide = max([len(m) for m in found.models] + [5])
    tall = max([len(row.task) for row in found.rows] + [4])
    direction = "higher is better" if found.higher_is_better else "lower is better"
    lines = [f"{found.metric} by {found.protocol} ({direction}), 95 % intervals over groups", ""]
    if found.rows:
        lines.append(
            f"{'task':<{tall}}  {counted(found.protocol):>6} {'groups':>6}  {'model':<{wide}}  value"
        )
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


def counted(protocol: str) -> str:
    """Returns what a protocol predicts one of at a time."""
    return "slides" if protocol.startswith(SLIDES) else "tiles"


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
    return lines + [f"  {task}: {why}" for task, why in found.shots_left_out.items()]


def by_model(shots: Sequence[FewShots]) -> dict[tuple[str, str], list[FewShots]]:
    """Returns (task, model) -> its records."""
    found: dict[tuple[str, str], list[FewShots]] = {}
    for s in shots:
        found.setdefault((s.task, s.model), []).append(s)
    return found


def _differences(found: Standings) -> list[str]:
    if not found.verdicts:
        return []
    family = sum(v.p_holm is not None for v in found.verdicts)
    over = (
        f"p after Holm's correction over {family} comparison{'s' * (family != 1)}"
        if family
        else "none counts"
    )
    lines = ["", f"{found.models[0]} minus the others; {over}"]
    for v in found.verdicts:
        said = f"{v.difference:+.3f} [{v.low:+.3f}, {v.high:+.3f}]"
        p = "" if v.p_holm is None else f"p {v.p_holm:.4f}, "
        lines.append(
            f"  {v.task}: {v.second}: {said}, {p}{called(v, found)}; would have shown {v.detectable:.3f}"
        )
    return lines


def called(v: Verdict, found: Standings) -> str:
    """Returns who is better, or why nobody is called."""
    if v.outcome != NOT_CALLED:
        return v.outcome
    rows = [row for row in found.rows if row.task == v.task and row.model in (v.first, v.second)]
    if any(row.seen == SEEN[True] for row in rows):
        return f"{NOT_CALLED} ({SEEN[True]})"
    return f"{NOT_CALLED} ({rows[0].n_groups} groups, {FEWEST_GROUPS} are the fewest)"


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
        "shots_left_out": dict(found.shots_left_out),
    }
