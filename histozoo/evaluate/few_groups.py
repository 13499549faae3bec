"""What a bootstrap over few groups misses: it is too sure of itself, the more so the fewer they are.

A comparison of fewer than `FEWEST` groups is told and not called: a sign test of five groups cannot reach p < 0.05 (2 / 2**5). From more
groups, intervals are widened as Student's t is wider than the normal law, and no p-value is smaller than that of a t-test with the
bootstrap's own standard error. numpy and scipy.

Shapes: R resamples, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from histozoo.errors import UsageError
from histozoo.evaluate.multiple import ALPHA, p_value
from histozoo.evaluate.resampling import LEVEL, Floats
from histozoo.evaluate.seeds import satterthwaite

POWER = 0.8

FEWEST = 6
"""Groups below which nobody is called better."""

NOT_CALLED = "not called"
"""The outcome of a comparison that does not count, beside a name and `no winner`."""

_ALIKE = 1e-12  # a spread of resamples that is rounding only


def widened(value: float, d_R: Floats, groups: int, *, seeds: Sequence[Sequence[float]] = ()) -> Floats:
    """Returns resampled differences, further from the value by what the bootstrap misses: few groups, and other seeds.

    The variance over G groups is divided by G where it should be by G - 1, and a percentile of the normal law stands where one of Student's
    t with G - 1 degrees of freedom should: 1.29 times at 8 groups, 1.06 at 30, 1.02 at 100. Infinite with one group. Of S seeds the
    variance of their mean is added, with the degrees of freedom of Satterthwaite (1946) as in histozoo.evaluate.seeds.

    Args:
        value: The difference on all groups.
        d_R: The difference on each resample.
        groups: Groups that were resampled.
        seeds: What each seed gave, once for every mean over seeds that the value is made of; fewer than two add nothing.
    """
    from scipy.stats import t  # type: ignore[import-untyped]

    if groups < 2:
        return np.full(len(d_R), np.inf)
    error, freedom = _error(d_R, groups, seeds)
    tail, normal = (1 + LEVEL) / 2, NormalDist()
    sd = float(np.nanstd(d_R))
    if sd > _ALIKE:
        around_R = (np.asarray(d_R) - value) / sd
    else:  # all groups alike: only the seeds have a spread, of which nothing but the size is known
        around_R = np.array([normal.inv_cdf((i + 0.5) / len(d_R)) for i in range(len(d_R))])
    wide_R: Floats = value + around_R * error * float(t.ppf(tail, freedom)) / normal.inv_cdf(tail)
    return wide_R


def p_widened(value: float, d_R: Floats, groups: int, *, seeds: Sequence[Sequence[float]] = ()) -> float:
    """Returns the larger of the p-value of the `widened` differences and that of a t-test with the bootstrap's standard error.

    Arguments as in `widened`; 1 with one group.
    """
    from scipy.stats import t

    if groups < 2:
        return 1.0
    error, freedom = _error(d_R, groups, seeds)
    by_t = 2 * float(t.sf(abs(value) / error, freedom)) if error else 0.0
    return max(p_value(widened(value, d_R, groups, seeds=seeds)), by_t)


def detectable(
    d_R: Floats, groups: int, *, seeds: Sequence[Sequence[float]] = (), comparisons: int = 1
) -> float:
    """Returns the smallest true difference that data like these show with a probability of 80 %, at a level of 5 %, two-sided.

    `(t_{1 - 0.05 / 2C} + t_{0.8})` standard errors (Bloom, "Minimum detectable effects", Evaluation Review 19 (1995) 547-556), quantiles of
    Student's t with the degrees of freedom that `p_widened` judges by, at the strictest step of Holm's correction for C comparisons. A "no
    winner" with a large one says that the test set is small or seeds lie far apart, not that the models are equal.

    Args:
        d_R: The difference on each resample.
        groups: As in `widened`; infinite with one.
        seeds: As in `widened`.
        comparisons: C, those corrected together.

    Raises:
        UsageError: `HZ-I62`, less than two differences are defined.
    """
    from scipy.stats import t

    if (defined := int((~np.isnan(d_R)).sum())) < 2:
        raise UsageError(
            "HZ-I62", "a spread needs differences", expected="two or more", got=f"{defined} defined"
        )
    if groups < 2:
        return math.inf
    error, freedom = _error(d_R, groups, seeds)
    quantiles = t.ppf([1 - ALPHA / (2 * comparisons), POWER], freedom)
    return float(quantiles.sum() * error)


def _error(d_R: Floats, groups: int, seeds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Returns the standard error of a difference and its degrees of freedom."""
    over_groups = float(np.nanvar(d_R)) * groups / (groups - 1)
    parts = [(over_groups, groups - 1)]
    parts += [(float(np.var(some, ddof=1)) / len(some), len(some) - 1) for some in seeds if len(some) > 1]
    variance, freedom = satterthwaite(parts)
    return math.sqrt(variance), freedom
