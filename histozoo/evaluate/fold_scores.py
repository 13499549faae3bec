"""A metric of cross-validated predictions by fold: for scores of several classifiers, which are not on one scale, and for a wider interval.

Shapes: N rows, K classes, F folds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate import auroc, scored
from histozoo.evaluate.protocol import Predictions
from histozoo.evaluate.resampling import LEVEL, Estimate


def fold_estimate(
    labels_N: NDArray[np.int64], groups_N: NDArray[Any], predictions: Predictions, *, metric: str
) -> Estimate:
    """Returns the mean over folds of the metric within each fold, with an interval from how the folds differ.

    The interval is Student's t with F - 1 degrees of freedom on the corrected variance of Nadeau and Bengio (2003),
    `(1 / F + n_test / n_train) var(folds)`: training sets that overlap make folds agree more than independent ones would. It is an interval
    for the method on training sets of this size, and a rough one with few folds; tests/test_fold_scores.py tells how often it holds.
    Predictions of a split have one fold and no such interval: use `scored.estimate`.

    Args:
        labels_N: True class indices of all rows that the features had.
        groups_N: Their groups.
        predictions: Of a protocol with folds.
        metric: A key of `scored.METRICS`; one of two classes takes the score of class 1.

    Raises:
        UsageError: `HZ-I62` a fold lacks a class; `HZ-I63` a single fold, or a fold of one group; `HZ-I65` no such metric, or one of
            probabilities for scores that are none.
    """
    if metric not in scored.METRICS:
        raise UsageError(
            "HZ-I65", f"there is no metric {metric!r}", expected=", ".join(scored.METRICS), got=metric
        )
    folds = np.unique(predictions.fold_N)
    if len(folds) < 2:
        raise UsageError(
            "HZ-I63",
            "an interval over folds needs at least two",
            expected="predictions of 2 or more folds",
            got="one fold, or a split",
            next_step="use scored.estimate, whose interval over groups is right for a split",
        )
    labels_N, groups_N = np.asarray(labels_N)[predictions.rows_N], np.asarray(groups_N)[predictions.rows_N]
    scores = predictions.scores_NK[:, 1] if metric in auroc.OF_ONE_CLASS else predictions.scores_NK
    values, ratios = [], []
    for fold in folds:
        rows = predictions.fold_N == fold
        found_M, _ = scored.bootstrap(
            labels_N[rows], scores[rows], groups_N[rows], metric=metric, resamples=1
        )
        values.append(float(found_M[0]))
        ratios.append(rows.sum() / (~rows).sum())
    low, high = _interval(np.array(values), float(np.mean(ratios)))
    return Estimate(
        value=float(np.mean(values)),
        low=low,
        high=high,
        n=len(labels_N),
        n_groups=len(np.unique(groups_N)),
        resamples=0,
        undefined=0,
    )


def _interval(values_F: NDArray[np.float64], test_to_train: float) -> tuple[float, float]:
    from scipy.stats import t  # type: ignore[import-untyped]

    folds = len(values_F)
    spread = math.sqrt((1 / folds + test_to_train) * values_F.var(ddof=1))
    reach = float(t.ppf((1 + LEVEL) / 2, folds - 1)) * spread
    return float(values_F.mean()) - reach, float(values_F.mean()) + reach
