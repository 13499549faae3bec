"""Two uncertainties kept apart: other patients for the same trained models, and other seeds of the training on the same patients.

A mean over seeds with an interval over groups says nothing of the next seed; a standard deviation over seeds says nothing of the next
hospital. Both are told, and their sum where a sentence is about the method rather than about these models on these patients.

Shapes: S seeds, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import LEVEL, percentiles


@dataclass(frozen=True, kw_only=True)
class SeedSummary:
    """A metric of models that differ in their seed only, or of the differences of two such sets.

    Args:
        value: The mean over seeds on all tiles.
        low, high: The 95 % interval of that mean over groups: these models, other patients.
        by_seed: Each seed's value on all tiles.
        seed_sd: The standard deviation of these over seeds: these patients, another model.
        test_se: The standard deviation of the mean over resamples of groups.
        total_low, total_high: The 95 % interval of the method's mean: other patients and other seeds; within the bounds of the metric.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    seed_sd: float
    test_se: float
    total_low: float
    total_high: float


def over_seeds(
    values_S: ArrayLike,
    resampled_RS: ArrayLike,
    *,
    groups: int,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> SeedSummary:
    """Returns the two-level summary.

    The variances add: `test_se**2 + seed_sd**2 / S`, with Student's t for the degrees of freedom of Satterthwaite (1946), since there are
    few seeds and often few groups. Models of different seeds disagree about single tiles, which is in both terms: the interval is rather
    too wide than too narrow.

    Args:
        values_S: The metric of each seed's model on all tiles.
        resampled_RS: The same on resamples of groups, from `bootstrap`.
        groups: Groups that were resampled.
        bounds: Least and largest value that the metric can have, such as those of `scored.bounds`; the total interval ends there.

    Raises:
        UsageError: `HZ-I62` a value or most resamples are undefined; `HZ-I63` fewer than two groups; `HZ-I64` numbers of seeds differ;
            `HZ-I65` fewer than two seeds.
    """
    values_S = np.asarray(values_S, dtype=np.float64)
    means_R = np.asarray(resampled_RS, dtype=np.float64).mean(1)
    _check(values_S, np.shape(resampled_RS), groups)
    seeds, value = len(values_S), float(values_S.mean())
    low, high = percentiles(means_R)
    test_se, seed_sd = float(np.nanstd(means_R, ddof=1)), float(values_S.std(ddof=1))
    reach = _reach(test_se**2, groups, seed_sd**2 / seeds, seeds)
    return SeedSummary(
        value=value,
        low=low,
        high=high,
        by_seed=tuple(values_S.tolist()),
        seed_sd=seed_sd,
        test_se=test_se,
        total_low=max(value - reach, bounds[0]),
        total_high=min(value + reach, bounds[1]),
    )


def _reach(test: float, groups: int, seed: float, seeds: int) -> float:
    """Returns half the width of the interval for two variances of a mean and how many values each rests on."""
    from scipy.stats import t  # type: ignore[import-untyped]

    variance, freedom = satterthwaite([(test, groups - 1), (seed, seeds - 1)])
    return float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance) if variance else 0.0


def satterthwaite(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Returns the sum of independent variances and its degrees of freedom (Satterthwaite 1946), those of the first where all are 0.

    Args:
        parts: Variance and degrees of freedom of each.
    """
    total = sum(variance for variance, _ in parts)
    if not total:
        return 0.0, parts[0][1]
    return total, total**2 / sum(variance**2 / freedom for variance, freedom in parts)


def _check(values_S: ArrayLike, shape: tuple[int, ...], groups: int) -> None:
    values_S = np.asarray(values_S)
    if len(values_S) < 2:
        raise UsageError(
            "HZ-I65",
            "the spread over seeds needs two seeds or more",
            expected="2 or more values",
            got=f"{len(values_S)}",
            next_step="state the interval over groups alone, and that one seed was trained",
        )
    if shape[1:] != values_S.shape:
        raise UsageError(
            "HZ-I64",
            "values and resamples are not of the same seeds",
            expected=f"[resamples, {len(values_S)}]",
            got=f"shape {shape}",
        )
    if groups < 2:
        raise UsageError("HZ-I63", "an interval needs at least two groups", got=f"{groups} groups")
    if np.isnan(values_S).any():
        raise UsageError("HZ-I62", "a seed's metric is undefined", expected="a number for every seed")
