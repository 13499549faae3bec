"""What a study found, as one JSON (rows in the form of an entry's `results`, and what is behind them) and as a table to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histozoo import durable
from histozoo.errors import UsageError
from histozoo.evaluate.comparison import METRIC, Comparison
from histozoo.evaluate.outcome import STEPS
from histozoo.evaluate.ranks import average_rank
from histozoo.evaluate.result import Subject
from histozoo.evaluate.statistics import Estimate

_SUBJECTS = ("trained", "random", "difference")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a study measured so far, and why it could not measure the rest.

    Args:
        study: Its name.
        resamples: Bootstrap resamples of every interval.
        measured: Comparisons with their estimates.
        undefined: Task -> why its metric is undefined.
    """

    study: str
    resamples: int
    measured: list[tuple[Comparison, dict[Subject, Estimate]]] = field(default_factory=list)
    undefined: dict[str, str] = field(default_factory=dict)

    def add(self, task: str, compare: Callable[[], Comparison]) -> None:
        """Keeps what `compare` gives; a task without a defined metric (`HZ-I62`, `HZ-I63`) is kept out, with its reason."""
        try:
            comparison = compare()
            self.measured.append((comparison, comparison.estimates(self.resamples)))
        except UsageError as error:
            if error.code not in ("HZ-I62", "HZ-I63"):
                raise
            self.undefined[task] = f"{error.code} {error.what}: {error.got}"

    def write(self, out: str | Path) -> dict[str, Any]:
        """Writes `out` (JSON) and the table beside it (`.txt`); returns what the JSON holds.

        Raises:
            UsageError: `HZ-I62`, no task gave a number.
        """
        report = summarise(self)
        durable.write_json(out, report)
        durable.write_text(Path(out).with_suffix(".txt"), table(report))
        return report


def summarise(findings: Findings) -> dict[str, Any]:
    """Returns the study as JSON types.

    `results` are rows as in an entry; `tasks` tells per task which run was measured and what each single random trunk gave;
    `average_rank` ranks the trained trunk among the random ones. `n_higher` counts tasks where the difference from the mean random
    trunk is above zero, however sure that is, `n_above_zero` those where its whole interval lies above zero, `n_above_every_seed` those
    where this holds against each random trunk singly: an interval over groups does not know how much one initialisation differs from the
    next, so the first alone is met by chance too often.

    Raises:
        UsageError: `HZ-I62`, no task gave a number.
    """
    if not findings.measured:
        reasons = "; ".join(f"{task}: {reason}" for task, reason in findings.undefined.items())
        steps = dict.fromkeys(STEPS[reason[:6]] for reason in findings.undefined.values())
        raise UsageError(
            "HZ-I62",
            "no task of the study gave a number",
            where=findings.study,
            got=reasons,
            next_step="; ".join(steps),
        )
    comparisons = [c for c, _ in findings.measured]
    results = [r.to_json() for c, estimates in findings.measured for r in c.results(estimates)]
    tasks = [_task(c, estimates["difference"], findings.resamples) for c, estimates in findings.measured]
    differences = [r for r in results if r["subject"] == "difference"]
    return {
        "schema": 2,
        "study": findings.study,
        "metric": METRIC,
        "random_seeds": list(comparisons[0].random_seeds),
        "resamples": findings.resamples,
        "n_tasks": len(tasks),
        "n_lineages": len({t["lineage"] for t in tasks}),
        "n_higher": sum(r["value"] > 0 for r in differences),
        "n_above_zero": sum(r["interval"][0] > 0 for r in differences),
        "n_above_every_seed": sum(t["above_every_seed"] for t in tasks),
        "average_rank": _average_ranks(comparisons, findings.resamples),
        "tasks": tasks,
        "undefined": findings.undefined,
        "results": results,
    }


def _task(c: Comparison, difference: Estimate, resamples: int) -> dict[str, Any]:
    by_seed = [c.difference_from(m, resamples) for m in range(len(c.random_seeds))]
    return {
        "task": c.labelled.task,
        "lineage": c.labelled.lineage,
        "run": c.run.folder.name,
        "run_sha256": c.run.sha256,
        "classes": len(c.labelled.classes),
        "random_by_seed": [round(v, 6) for v in c.values_M()[1:]],
        "difference_by_seed": [[round(v, 6) for v in (d.value, *d.interval)] for d in by_seed],
        "above_every_seed": all(round(d.low, 6) > 0 for d in by_seed),
        "undefined_resamples": difference.undefined,
        "c_by_fold": list(c.trained.c_F),
    }


def _average_ranks(comparisons: Sequence[Comparison], resamples: int) -> list[dict[str, Any]]:
    names = ["trained", *(f"random, seed {s}" for s in comparisons[0].random_seeds)]
    means = average_rank(
        [c.values_M() for c in comparisons],
        [c.bootstrap(resamples) for c in comparisons],
        seed=comparisons[0].seed,
    )
    return [
        {"subject": name, "value": round(mean, 6), "interval": [round(low, 6), round(high, 6)]}
        for name, (mean, low, high) in zip(names, means, strict=True)
    ]


def table(report: Mapping[str, Any]) -> str:
    """Returns the study as plain text, one line per task."""
    rows = {(r["task"], r["subject"]): r for r in report["results"]}
    head = f"{'task':<18} {'classes':>7} {'tiles':>6} {'groups':>6}  " + "  ".join(
        f"{s:<20}" for s in _SUBJECTS
    )
    lines = [f"{report['metric']} by feature extraction, 95 % intervals over groups", "", head]
    for t in report["tasks"]:
        found = [rows[t["task"], s] for s in _SUBJECTS]
        mark = " *" * ((found[2]["interval"][0] > 0) + t["above_every_seed"])
        sizes = f"{t['classes']:>7} {found[0]['n']:>6} {found[0]['n_groups']:>6}"
        lines.append(f"{t['task']:<18} {sizes}  {'  '.join(map(_cell, found))}{mark}")
    lines += [
        "",
        f"random: mean over seeds {report['random_seeds']}; difference: trained minus random, same groups resampled",
        "*   the interval of the difference lies above zero;  * *  against each random trunk singly, too",
        f"trained is higher on {report['n_higher']} of {report['n_tasks']} tasks ({report['n_lineages']} lineages), by intervals on "
        f"{report['n_above_zero']} (*), against each random trunk on {report['n_above_every_seed']} (* *); not corrected for their number",
        *(f"undefined and not counted: {task}, {reason}" for task, reason in report["undefined"].items()),
        "",
        "average rank over tasks (1 is best)",
        *(f"  {r['subject']:<16} {_cell(r)}" for r in report["average_rank"]),
    ]
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['value']:.3f} [{low:.3f}, {high:.3f}]"
