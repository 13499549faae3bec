"""Cells -> what they say: values with intervals, paired differences with Holm's correction, ranks over clean tasks, "no winner".

A score on a lineage that a model was trained on is told and marked, but takes no part in ranks: it is not evidence about new tissue.

Shapes: M cells of a task, R resamples, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from histozoo.errors import UsageError
from histozoo.evaluate import scored
from histozoo.evaluate.calibration import METRICS as OF_PROBABILITIES
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.confusion import Confusion, confusions
from histozoo.evaluate.compare.rows import SEEN, Row, by_seed, row
from histozoo.evaluate.compare.shots import FewShots, few_shots, left_out
from histozoo.evaluate.resampling import Floats
from histozoo.evaluate.verdicts import NO_WINNER, Podium, Verdict, compare, over_tasks

METRICS = ("balanced_accuracy", "roc_auc_ovr")
"""The metrics told; the first one decides."""

CALIBRATION = "expected_calibration_error"
"""Told beside them where scores are probabilities."""

FEWEST = 6
"""Lineages among the clean tasks below which nobody is called best over tasks: a sign test of five cannot reach p < 0.05 (2 / 2**5)."""


@dataclass(frozen=True, kw_only=True)
class Standings:
    """One protocol and metric.

    Args:
        protocol, metric: Of what.
        higher_is_better: Direction of the metric.
        models: In the order given; the first is what the others are compared with.
        rows: Every model on every task.
        verdicts: The first model against every other, on every task, corrected for all of them together that count.
        clean: Tasks whose lineage no compared model is known to have seen.
        lineages: Lineages of these tasks; below `FEWEST`, every outcome over tasks is `no winner`.
        podium: Ranks over the clean tasks; None where there are fewer than two or one model.
        undefined: Task -> why it has no number.
        shots: Beside the deciding metric of a few-shot protocol, what each number of shots gave.
        shots_left_out: Task -> the numbers that its rarest class is too small for, in words.
        confusions: Beside the deciding metric, which class was taken for which.
    """

    protocol: str
    metric: str
    higher_is_better: bool
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    clean: tuple[str, ...]
    lineages: int
    podium: Podium | None
    undefined: Mapping[str, str]
    shots: tuple[FewShots, ...] = ()
    shots_left_out: Mapping[str, str] = field(default_factory=dict)
    confusions: tuple[Confusion, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Task:
    name: str
    rows: list[Row]
    values_M: Floats
    resampled_RM: Floats
    by_seed: dict[str, tuple[float, ...]]
    clean: bool


def standings(
    cells: Sequence[Cell],
    *,
    metric: str = METRICS[0],
    seed: int = 0,
    resamples: int = 10_000,
    undefined: Mapping[str, str] | None = None,
) -> Standings:
    """Returns how models stand by one protocol and metric.

    Args:
        cells: Of one protocol; every model on every task.
        metric: A key of `scored.METRICS`.
        seed: Of the resampling.
        resamples: Bootstrap resamples.
        undefined: Task -> why it could not be measured, told beside those without this metric.

    Raises:
        UsageError: `HZ-I75` no cells, several protocols, or a model without a task that others have; `HZ-I65` the metric needs
            probabilities, which the protocol does not give, or there are too few resamples for so many comparisons.
    """
    models, tasks = _checked(cells, metric)
    measured, absent = [], dict(undefined or {})
    for task in tasks:
        try:
            measured.append(_task([c for c in cells if c.task == task], models, metric, seed, resamples))
        except UsageError as error:
            if error.code not in ("HZ-I62", "HZ-I63"):
                raise
            absent[task] = f"{error.code} {error.what}; {error.got}"
    clean = [t for t in measured if t.clean]
    lineages = len({t.rows[0].lineage for t in clean})
    return Standings(
        protocol=cells[0].protocol,
        metric=metric,
        higher_is_better=scored.METRICS[metric],
        models=tuple(models),
        rows=tuple(r for t in measured for r in t.rows),
        verdicts=tuple(_verdicts(measured, models, metric)),
        clean=tuple(t.name for t in clean),
        lineages=lineages,
        podium=_podium(clean, models, metric, seed, crown=lineages >= FEWEST),
        undefined=absent,
        shots=few_shots(cells) if metric == METRICS[0] else (),
        shots_left_out=left_out(cells) if metric == METRICS[0] else {},
        confusions=confusions(cells) if metric == METRICS[0] else (),
    )


def nothing(protocol: str, models: Sequence[str], undefined: Mapping[str, str]) -> Standings:
    """Returns the standings of a protocol by which no task has a number."""
    return Standings(
        protocol=protocol,
        metric=METRICS[0],
        higher_is_better=True,
        models=tuple(models),
        rows=(),
        verdicts=(),
        clean=(),
        lineages=0,
        podium=None,
        undefined=undefined,
    )


def _verdicts(measured: Sequence[_Task], models: Sequence[str], metric: str) -> list[Verdict]:
    if len(models) < 2 or not measured:
        return []
    return compare(
        [t.name for t in measured],
        models,
        [t.values_M for t in measured],
        [t.resampled_RM for t in measured],
        groups=[t.rows[0].n_groups for t in measured],
        seen={(r.task, r.model) for t in measured for r in t.rows if r.seen == SEEN[True]},
        seeds={(t.name, model): values for t in measured for model, values in t.by_seed.items()},
        against=models[0],
        higher_is_better=scored.METRICS[metric],
    )


def _podium(
    clean: Sequence[_Task], models: Sequence[str], metric: str, seed: int, *, crown: bool
) -> Podium | None:
    if len(models) < 2 or len(clean) < 2:
        return None
    podium = over_tasks(
        models,
        [t.values_M for t in clean],
        [t.resampled_RM for t in clean],
        higher_is_better=scored.METRICS[metric],
        seed=seed,
        lineages=[t.rows[0].lineage for t in clean],
    )
    if crown:
        return podium
    told = tuple(replace(v, outcome=NO_WINNER) for v in podium.verdicts)
    return replace(podium, verdicts=told, outcome=NO_WINNER)


def offered(cells: Sequence[Cell]) -> list[str]:
    """Returns the metrics that these cells can give: those of guess and ranking, and calibration where scores are probabilities."""
    if not cells:
        return []
    return [*METRICS, *([CALIBRATION] if all(c.probabilities for c in cells) else [])]


def resampled(cells: Sequence[Cell], *, metric: str, seed: int, resamples: int) -> tuple[Floats, Floats]:
    """Returns the value of each cell `[C]`, and on resamples of the groups `[R, C]`, wider where folds share training rows.

    Args:
        cells: Of one task and protocol.
        metric: What of them.
        seed: Of the resamples; the same groups are drawn for all cells.
        resamples: How many.
    """
    one = cells[0]
    return scored.bootstrap(
        one.labels_N,
        np.stack([c.scores_NK for c in cells]),
        one.groups_N,
        metric=metric,
        fold_N=one.fold_N,
        seed=seed,
        resamples=resamples,
    )


def _task(cells: Sequence[Cell], models: Sequence[str], metric: str, seed: int, resamples: int) -> _Task:
    ordered = [c for model in models for c in cells if c.model == model]
    first = ordered[0]
    values_C, resampled_RC = resampled(ordered, metric=metric, seed=seed, resamples=resamples)
    columns = [[i for i, c in enumerate(ordered) if c.model == model] for model in models]
    values_M = np.array([values_C[places].mean() for places in columns])
    resampled_RM = np.stack([resampled_RC[:, places].mean(1) for places in columns], 1)
    rows = [
        row(
            [ordered[i] for i in places],
            metric,
            values_C[places],
            resampled_RC[:, places],
        )
        for places in columns
    ]
    return _Task(
        name=first.task,
        rows=rows,
        values_M=values_M,
        resampled_RM=resampled_RM,
        by_seed={
            model: by_seed([ordered[i] for i in places], values_C[places])
            for model, places in zip(models, columns, strict=True)
        },
        clean=all(c.seen is not True for c in cells),
    )


def _checked(cells: Sequence[Cell], metric: str) -> tuple[list[str], list[str]]:
    models, tasks = list(dict.fromkeys(c.model for c in cells)), list(dict.fromkeys(c.task for c in cells))
    protocols = {c.protocol for c in cells}
    there = {(c.model, c.task) for c in cells}
    absent = [f"{m} on {t}" for m in models for t in tasks if (m, t) not in there]
    if len(protocols) != 1 or absent:
        raise UsageError(
            "HZ-I75",
            "these results cannot stand side by side",
            expected="one protocol, and every model on every task",
            got=", ".join(sorted(protocols)) + (f"; absent: {', '.join(absent)}" if absent else ""),
        )
    if metric in OF_PROBABILITIES and not all(c.probabilities for c in cells):
        raise UsageError(
            "HZ-I65",
            f"{metric} needs probabilities, and this protocol gives scores",
            where=next(iter(protocols)),
            expected=", ".join(METRICS),
            got=metric,
        )
    return models, tasks
