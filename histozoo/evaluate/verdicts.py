"""Is one model better? On each task and over tasks, corrected for how often that was asked; "no winner" is an answer.

What is compared are a metric's values on the same resamples of groups (`bootstrap` of histozoo.evaluate.scored or .statistics), so every
difference is paired. histozoo.evaluate.multiple says what the p-value is and what its correction promises. numpy only.

Shapes: T tasks, M models, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from histozoo.errors import UsageError
from histozoo.evaluate.multiple import ALPHA, detectable, holm, p_value
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
        low, high: Its 95 % interval, not corrected.
        p: Two-sided p-value, not corrected.
        p_holm: After Holm's correction over all comparisons made together.
        detectable: The true difference that this test set would have shown in 4 of 5 cases, see `detectable`.
        undefined: Resamples without a difference, left out.
        outcome: The name of the better model, or `no winner` where `p_holm` is not below 0.05.
    """

    task: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
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
    against: str | None = None,
    higher_is_better: bool = True,
) -> list[Verdict]:
    """Returns a verdict for every task and pair of models, corrected for all of them together.

    Args:
        tasks: Names of T tasks.
        models: Names of M models.
        values_TM: The metric of each model on each task.
        resampled: One `[R, M]` array per task, from `bootstrap`.
        against: Compare every other model with this one only: fewer questions, a milder correction. To be decided before looking.
        higher_is_better: False for losses.

    Raises:
        UsageError: `HZ-I62` a value or most differences of a task are undefined; `HZ-I64` numbers of tasks or models differ; `HZ-I65` fewer
            than two models, no such model, or so few resamples that nothing could be found.
    """
    values_TM = _checked(tasks, models, values_TM, resampled)
    pairs = [
        (a, b) for a, b in combinations(range(len(models)), 2) if against in (None, models[a], models[b])
    ]
    if not pairs:
        raise UsageError(
            "HZ-I65", f"there is no model {against!r} to compare with", expected=", ".join(models)
        )
    rows = [
        (task, models[a], models[b], values_M[a] - values_M[b], values_RM[:, a] - values_RM[:, b])
        for task, values_M, values_RM in zip(tasks, values_TM, resampled, strict=True)
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
) -> Podium:
    """Returns how models stand by their mean rank over tasks, and whether one is better than every other.

    A resample draws tasks with replacement, and groups within them (see `average_rank`); raw scores are never averaged over tasks.
    Arguments and errors as in `compare`.
    """
    sign = 1 if higher_is_better else -1
    values_TM = sign * _checked([str(i) for i in range(len(resampled))], models, values_TM, resampled)
    means_M = ranks(values_TM).mean(0)
    means_RM = resampled_ranks(values_TM, [sign * v for v in resampled], seed=seed)
    rows = [
        ("over tasks", models[a], models[b], means_M[a] - means_M[b], means_RM[:, a] - means_RM[:, b])
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


_Row = tuple[str, str, str, float, Floats]


def _verdicts(rows: Sequence[_Row], *, sign: int) -> list[Verdict]:
    enough(min(int((~np.isnan(d_R)).sum()) for *_, d_R in rows), len(rows))
    p_C = [p_value(d_R) for *_, d_R in rows]
    return [
        _verdict(row, p=p, p_holm=float(p_holm), comparisons=len(rows), sign=sign)
        for row, p, p_holm in zip(rows, p_C, holm(p_C), strict=True)
    ]


def _verdict(row: _Row, *, p: float, p_holm: float, comparisons: int, sign: int) -> Verdict:
    task, first, second, value, d_R = row
    low, high = percentiles(d_R)
    better = first if sign * (low + high) > 0 else second
    return Verdict(
        task=task,
        first=first,
        second=second,
        difference=float(value),
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        detectable=detectable(d_R, comparisons=comparisons),
        undefined=int(np.isnan(d_R).sum()),
        outcome=better if p_holm < ALPHA else NO_WINNER,
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
        raise UsageError(
            "HZ-I64",
            "values and resamples are not of the same tasks and models",
            expected=f"{len(tasks)} tasks and {len(models)} models",
            got=f"values {values_TM.shape}, resamples of {len(resampled)} tasks, models {sorted(shapes)}",
        )
    if len(set(models)) < 2 or len(set(models)) < len(models):
        raise UsageError("HZ-I65", "a comparison needs two models or more, by different names", got=models)
    if np.isnan(values_TM).any():
        task = tasks[int(np.flatnonzero(np.isnan(values_TM).any(1))[0])]
        raise UsageError("HZ-I62", "a comparison needs every model's metric on every task", where=task)
    return values_TM


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
