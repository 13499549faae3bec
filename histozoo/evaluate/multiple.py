"""How sure a difference is when many are looked at: bootstrap p-value, Holm's correction, minimum detectable difference.

The p-value is read off the resampled differences of two models on the same groups: the smallest level at which the percentile interval
of the difference leaves zero out (Davison and Hinkley 1997, section 4.4), so that p < 0.05 and "the 95 % interval excludes zero" are one
statement. It asks about other patients, not about other seeds of the training: histozoo.evaluate.seeds does. With few groups it is too
small, as the interval is too narrow. Holm's correction (Holm 1979) keeps the chance of one false winner among all comparisons made at
5 %, however they hang together. numpy only.

Shapes: R resamples, C comparisons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import LEVEL, Floats

ALPHA = 1 - LEVEL
_EQUAL_WITHIN = 1e-12  # two sums of the same numbers in another order differ by less; a tile counted once more differs by far more


def p_value(differences_R: ArrayLike) -> float:
    """Returns the two-sided bootstrap p-value of a difference, in [2 / (R + 1), 1].

    Twice the share of resamples on the rarer side of zero, zero counting for both sides and one resample added to each, so that it is never
    0: `2 min(1 + #{d <= 0}, 1 + #{d >= 0}) / (R + 1)`. Undefined resamples are left out.

    Raises:
        UsageError: `HZ-I62`, no difference is defined.
    """
    d_R = np.asarray(differences_R, dtype=np.float64)
    d_R = d_R[~np.isnan(d_R)]
    if not len(d_R):
        raise UsageError("HZ-I62", "a p-value needs differences", expected="one or more", got="none defined")
    rarer = min((d_R <= _EQUAL_WITHIN).sum(), (d_R >= -_EQUAL_WITHIN).sum())
    return min(1.0, float(2 * (1 + rarer) / (len(d_R) + 1)))


def holm(p_C: ArrayLike) -> Floats:
    """Returns p-values after Holm's step-down correction, in the order given: the i-th smallest of C times C - i + 1, never falling.

    Raises:
        UsageError: `HZ-I65`, one is not in [0, 1].
    """
    p_C = np.asarray(p_C, dtype=np.float64)
    if p_C.ndim != 1 or not ((p_C >= 0) & (p_C <= 1)).all():
        raise UsageError("HZ-I65", "there are p-values outside [0, 1]", expected="one row of them", got=p_C)
    order = np.argsort(p_C)
    adjusted_C = np.empty(len(p_C))
    adjusted_C[order] = np.maximum.accumulate(p_C[order] * np.arange(len(p_C), 0, -1))
    return np.minimum(adjusted_C, 1.0)
