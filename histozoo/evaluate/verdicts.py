"""Is one model better? On each task and over tasks, corrected for how often that was asked; "no winner" is an answer.

What is compared are a metric's values on the same resamples of groups (`bootstrap` of histozoo.evaluate.scored or .statistics), so every
difference is paired. histozoo.evaluate.multiple says what the p-value is and what its correction promises, histozoo.evaluate.few_groups
how few groups are allowed for. A comparison of fewer than six, or on a lineage that one of the two was trained on, is told and not called.

Shapes: T tasks, M models, R resamples.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from histozoo.errors import UsageError
from histozoo.evaluate.few_groups import FEWEST, NOT_CALLED, detectable, p_widened, widened
from histozoo.evaluate.multiple import ALPHA, holm
from histozoo.evaluate.ranks import ranks, resampled_ranks
from histozoo.evaluate.resampling import Floats, percentiles

NO_WINNER = "no winner"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One comparison of two models.

    Args:
        task: Where, or `over tasks`.
        first, second: Their names.
        difference: The metric of `first` minus that of `second`; over tasks, their mean ranks' difference.
        low, high: Its 95 % interval, widened for few groups and for seeds that lie apart, not corrected for many comparisons.
        p: Two-sided p-value, not corrected.
        p_holm: After Holm's correction over all comparisons that count; None where this one does not.
        detectable: The true difference that this test set would have shown in 4 of 5 cases, see `detectable`.
        undefined: Resamples without a difference, left out.
        outcome: The name of the better model, `no winner` where `p_holm` is not below 0.05, or `not called` where there is none.
    """

    task: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float | None
    detectable: float
    undefined: int
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A model among the others, over all tasks.

    Args:
        model: Its name.
        rank: Its mean rank over tasks; 1 is best.
        low, high: The 95 % interval over tasks and their groups.
    """

    model: str
    rank: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Podium:
    """How models stand over all tasks.

    Args:
        standings: Models, the best mean rank first.
        verdicts: Every pair of them.
        outcome: The model that is better than every other, or `no winner`.
    """

    standings: tuple[Standing, ...]
    verdicts: tuple[Verdict, ...]
    outcome: str


def compare(
    tasks: Sequence[str],
    models: Sequence[str],
    values_TM: ArrayLike,
    resampled: Sequence[Floats],
    *,
    groups: Sequence[int],
    seen: Collection[tuple[str, str]] = (),
    seeds: Mapping[tuple[str, str], Sequence[float]] | None = None,
    against: str | None = None,
    higher_is_better: bool = True,
) -> list[Verdict]:
    """Returns a verdict for every task and pair of models, corrected for all of them together that count.

    Args:
        tasks: Names of T tasks.
        models: Names of M models.
        values_TM: The metric of each model on each task.
        resampled: One `[R, M]` array per task, from `bootstrap`.
        groups: Groups of each task, the unit resampled.
        seen: Task and model where the model was trained on the task's lineage.
        seeds: Task and model -> what each seed gave, where the model's value is a mean over seeds: intervals and p-values allow for others.
        against: Compare every other model with this one only: fewer questions, a milder correction. To be decided before looking.
        higher_is_better: False for losses.

    Raises:
        UsageError: `HZ-I62` a value or most differences of a task are undefined; `HZ-I64` numbers of tasks or models differ; `HZ-I65` fewer
            than two models, no such model, or so few resamples that nothing could be found.
    """
    values_TM = _checked(tasks, models, values_TM, resampled)
    if len(groups) != len(tasks):
        raise _apart(f"groups of {len(tasks)} tasks", f"groups of {len(groups)}")
    pairs = [
        (a, b) for a, b in combinations(range(len(models)), 2) if against in (None, models[a], models[b])
    ]
    if not pairs:
        raise UsageError(
            "HZ-I65", f"there is no model {against!r} to compare with", expected=", ".join(models)
        )
    rows = [
        _Row(
            task,
            models[a],
            models[b],
            values_M[a] - values_M[b],
            values_RM[:, a] - values_RM[:, b],
            of_task,
            of_task >= FEWEST and not {(task, models[a]), (task, models[b])} & set(seen),
            tuple(tuple((seeds or {}).get((task, models[m]), ())) for m in (a, b)),
        )
        for task, values_M, values_RM, of_task in zip(tasks, values_TM, resampled, groups, strict=True)
        for a, b in pairs
    ]
    return _verdicts(rows, sign=1 if higher_is_better else -1)


def winner(verdicts: Sequence[Verdict], models: Sequence[str]) -> str:
    """Returns the model that every verdict with another one names, or `no winner`. `verdicts` are of all pairs on one task.

    With two models of which neither is named, with three where the best two do not separate, or where they beat one another in a circle,
    there is no winner.
    """
    for model in models:
        others = {v.second if v.first == model else v.first for v in verdicts if v.outcome == model}
        if others == set(models) - {model}:
            return model
    return NO_WINNER


def over_tasks(
    models: Sequence[str],
    values_TM: ArrayLike,
    resampled: Sequence[Floats],
    *,
    higher_is_better: bool = True,
    seed: int = 0,
    lineages: Sequence[str] | None = None,
) -> Podium:
    """Returns how models stand by their mean rank over tasks, and whether one is better than every other.

    A resample draws whole lineages with replacement (`lineages` names that of each task; None takes every task for one of its own) and
    groups within tasks, see `average_rank`; differences are widened for few lineages. Raw scores are never averaged over tasks. Other
    arguments and errors are as in `compare`.
    """
    sign = 1 if higher_is_better else -1
    values_TM = sign * _checked([str(i) for i in range(len(resampled))], models, values_TM, resampled)
    means_M = ranks(values_TM).mean(0)
    means_RM = resampled_ranks(values_TM, [sign * v for v in resampled], seed=seed, lineages=lineages)
    units = len(set(range(len(resampled)) if lineages is None else lineages))
    rows = [
        _Row(
            "over tasks",
            models[a],
            models[b],
            means_M[a] - means_M[b],
            means_RM[:, a] - means_RM[:, b],
            units,
        )
        for a, b in combinations(range(len(models)), 2)
    ]
    verdicts = _verdicts(rows, sign=-1)  # a lower rank is better
    ends = [percentiles(means_R) for means_R in means_RM.T]
    standings = [
        Standing(model=m, rank=float(mean), low=low, high=high)
        for m, mean, (low, high) in zip(models, means_M, ends, strict=True)
    ]
    return Podium(
        standings=tuple(sorted(standings, key=lambda s: s.rank)),
        verdicts=tuple(verdicts),
        outcome=winner(verdicts, models),
    )


class _Row(NamedTuple):
    task: str
    first: str
    second: str
    difference: float
    d_R: Floats
    groups: int  # what was resampled: groups of a task, lineages over tasks
    counts: bool = True
    seeds: tuple[tuple[float, ...], ...] = ()


def _verdicts(rows: Sequence[_Row], *, sign: int) -> list[Verdict]:
    counted = [row for row in rows if row.counts]
    if counted:
        enough(min(int((~np.isnan(row.d_R)).sum()) for row in counted), len(counted))
    p_C = [p_widened(row.difference, row.d_R, row.groups, seeds=row.seeds) for row in rows]
    corrected = iter(holm([p for row, p in zip(rows, p_C, strict=True) if row.counts]).tolist())
    return [
        _verdict(row, p=p, p_holm=next(corrected) if row.counts else None, family=len(counted), sign=sign)
        for row, p in zip(rows, p_C, strict=True)
    ]


def _verdict(row: _Row, *, p: float, p_holm: float | None, family: int, sign: int) -> Verdict:
    spread_R = widened(row.difference, row.d_R, row.groups, seeds=row.seeds)
    low, high = percentiles(spread_R)
    better = row.first if sign * (low + high) > 0 else row.second
    called = better if p_holm is not None and p_holm < ALPHA else NO_WINNER
    return Verdict(
        task=row.task,
        first=row.first,
        second=row.second,
        difference=float(row.difference),
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        detectable=detectable(row.d_R, row.groups, seeds=row.seeds, comparisons=max(1, family)),
        undefined=int(np.isnan(row.d_R).sum()),
        outcome=NOT_CALLED if p_holm is None else called,
    )


# -- what is refused -------------------------------------------------------------------------------------------------------------------


def _checked(
    tasks: Sequence[str], models: Sequence[str], values_TM: ArrayLike, resampled: Sequence[Floats]
) -> Floats:
    values_TM = np.asarray(values_TM, dtype=np.float64)
    shapes = {v.shape[1:] for v in resampled}
    if (
        values_TM.shape != (len(tasks), len(models))
        or len(resampled) != len(tasks)
        or shapes != {(len(models),)}
    ):
        raise _apart(
            f"{len(tasks)} tasks and {len(models)} models",
            f"values {values_TM.shape}, resamples of {len(resampled)} tasks, models {sorted(shapes)}",
        )
    if len(set(models)) < 2 or len(set(models)) < len(models):
        raise UsageError("HZ-I65", "a comparison needs two models or more, by different names", got=models)
    if np.isnan(values_TM).any():
        task = tasks[int(np.flatnonzero(np.isnan(values_TM).any(1))[0])]
        raise UsageError("HZ-I62", "a comparison needs every model's metric on every task", where=task)
    return values_TM


def _apart(expected: str, got: str) -> UsageError:
    return UsageError(
        "HZ-I64", "values and resamples are not of the same tasks and models", expected=expected, got=got
    )


def enough(resamples: int, comparisons: int) -> None:
    """Refuses what could not come out but as "no winner": the smallest p-value times the number of comparisons is not below 0.05.

    Raises:
        UsageError: `HZ-I65`, with how many resamples would do.
    """
    if comparisons * 2 / (resamples + 1) >= ALPHA:
        raise UsageError(
            "HZ-I65",
            "too few resamples to find anything among so many comparisons",
            expected=f"more than {2 * comparisons / ALPHA - 1:.0f} defined resamples for {comparisons} comparisons",
            got=f"{resamples}",
            next_step="draw more, or name the one model that the others are compared with",
        )
