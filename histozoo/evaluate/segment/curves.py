"""Scores per picture -> values with intervals over groups, paired differences, and the smallest training set at which they differ.

Every value is the mean over groups of the mean over each group's pictures: a patient with many pictures counts as one. Groups are drawn
with replacement (the cluster bootstrap of histozoo/evaluate/resampling.py). An interval over groups is about these trained models on other
patients; the one that adds the seeds (histozoo/evaluate/seeds.py) is about the method.

Shapes: N pictures, G groups, S seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import (
    Estimate,
    Floats,
    group_indices,
    percentiles,
    resample,
    same_rows,
)
from histozoo.evaluate.seeds import SeedSummary, over_seeds

Curve = Mapping[int, ArrayLike]
"""Training groups -> a metric of each test picture for each seed, `[S, N]`."""


def of_groups(values_SN: ArrayLike, groups_N: NDArray[Any]) -> Floats:
    """Returns each group's mean over its pictures, `[S, G]`, groups in sorted order.

    Raises:
        UsageError: `HZ-I62` a value is not finite; `HZ-I63` fewer than two groups; `HZ-I64` values and groups differ in number.
    """
    values_SN = np.atleast_2d(np.asarray(values_SN, dtype=np.float64))
    group_N, groups = group_indices(groups_N, values_SN.shape[1])
    if not np.isfinite(values_SN).all():
        raise UsageError("HZ-I62", "a score is not finite", got=f"{(~np.isfinite(values_SN)).sum()} values")
    sums_SG = np.stack([np.bincount(group_N, weights=v_N, minlength=groups) for v_N in values_SN])
    means_SG: Floats = sums_SG / np.bincount(group_N)
    return means_SG


def resampled(means_SG: Floats, *, seed: int, resamples: int) -> Floats:
    """Returns the mean of as many groups as there are, drawn with replacement, for each seed on the same draws, `[R, S]`."""
    seeds, groups = means_SG.shape
    return resample(
        lambda counts_BG: counts_BG @ means_SG.T / groups,
        groups,
        width=seeds,
        seed=seed,
        resamples=resamples,
    )


def estimate(
    values_SN: ArrayLike, groups_N: NDArray[Any], *, seed: int = 0, resamples: int = 10_000
) -> Estimate:
    """Returns the mean over groups (of the mean over seeds) with its 95 % interval over groups; errors as in `of_groups`."""
    means_SG = of_groups(values_SN, groups_N)
    low, high = percentiles(resampled(means_SG, seed=seed, resamples=resamples).mean(1))
    return Estimate(
        value=float(means_SG.mean()),
        low=low,
        high=high,
        n=len(groups_N),
        n_groups=means_SG.shape[1],
        resamples=resamples,
        undefined=0,
    )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better one initialisation is than another at one size of training set; for a distance, less is better.

    Args:
        size: Training groups.
        estimate: First minus second, mean over seeds, with the 95 % interval over groups.
        seeds: The difference of each seed, both trained on the same pictures, and the interval that adds the seeds; None for one seed.
        adjusted: The interval over groups at 1 - 0.05 / (number of sizes) (Bonferroni): all sizes of a curve are looked at.
    """

    size: int
    estimate: Estimate
    seeds: SeedSummary | None
    adjusted: tuple[float, float]

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval over groups lies on one side of 0."""
        return _one_side(*self.estimate.interval)

    @property
    def excludes_zero_adjusted(self) -> bool:
        """The same for the interval that allows for the number of sizes."""
        return _one_side(*self.adjusted)

    @property
    def excludes_zero_with_seeds(self) -> bool:
        """The same for the interval over groups and seeds; with one seed nothing is known of others, so never."""
        return self.seeds is not None and _one_side(self.seeds.total_low, self.seeds.total_high)


def _one_side(low: float, high: float) -> bool:
    return low > 0 or high < 0


def differences(
    first: Curve, second: Curve, groups_N: NDArray[Any], *, seed: int = 0, resamples: int = 10_000
) -> list[Difference]:
    """Returns the paired difference at each size, ascending: every resample draws the same groups for both.

    Raises:
        UsageError: `HZ-I64`, the two have not the same sizes, seeds and pictures; and what `of_groups` raises.
    """
    if set(first) != set(second):
        raise UsageError(
            "HZ-I64", "two curves have not the same sizes", expected=sorted(first), got=sorted(second)
        )
    return [
        _difference(
            size,
            of_groups(_paired(first[size], second[size]), groups_N),
            pictures=len(groups_N),
            sizes=len(first),
            seed=seed,
            resamples=resamples,
        )
        for size in sorted(first)
    ]


def _paired(first_SN: ArrayLike, second_SN: ArrayLike) -> Floats:
    one, other = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (first_SN, second_SN))
    for a, b, what in zip(one.shape, other.shape, ("seeds", "pictures"), strict=True):
        same_rows(a, b, what)
    difference_SN: Floats = one - other
    return difference_SN


def _difference(
    size: int, means_SG: Floats, *, pictures: int, sizes: int, seed: int, resamples: int
) -> Difference:
    seeds, groups = means_SG.shape
    drawn_RS = resampled(means_SG, seed=seed, resamples=resamples)
    low, high = percentiles(drawn_RS.mean(1))
    tail = 0.05 / sizes / 2
    wide = np.quantile(drawn_RS.mean(1), [tail, 1 - tail])
    return Difference(
        size=size,
        estimate=Estimate(
            value=float(means_SG.mean()),
            low=low,
            high=high,
            n=pictures,
            n_groups=groups,
            resamples=resamples,
            undefined=0,
        ),
        seeds=over_seeds(means_SG.mean(1), drawn_RS, groups=groups) if seeds > 1 else None,
        adjusted=(float(wide[0]), float(wide[1])),
    )


def smallest(found: list[Difference], *, by: str = "excludes_zero") -> int | None:
    """Returns the smallest training set at which the interval of the difference excludes 0; None: at none of those measured.

    Args:
        found: The differences of a curve.
        by: Which interval: `excludes_zero`, `excludes_zero_adjusted` or `excludes_zero_with_seeds`.
    """
    return min((d.size for d in found if getattr(d, by)), default=None)
