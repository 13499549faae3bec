"""One door to every metric of a model's probabilities: value, interval over groups, paired difference between models.

    estimate(labels_N, probabilities_NK, groups_N, metric="roc_auc_ovr")

The guess behind metrics of a confusion matrix is the most probable class. For the same groups and seed all models and metrics are measured
on the same resamples. Metrics are named as scikit-learn's scorers, losses as its functions; `METRICS` lists them with their direction.

Shapes: N tiles, G groups, K classes, M models, R resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from histozoo.errors import UsageError
from histozoo.evaluate import auroc, calibration, statistics
from histozoo.evaluate.auroc import defined, ranking, scores_of
from histozoo.evaluate.calibration import probabilistic
from histozoo.evaluate.resampling import (
    Estimate,
    Floats,
    Ints,
    Metric,
    Names,
    class_indices,
    group_indices,
    over_folds,
    percentiles,
    resample,
    same_rows,
)

METRICS: dict[str, bool] = {
    **dict.fromkeys(statistics.METRICS, True),
    **dict.fromkeys(auroc.METRICS, True),
    **dict.fromkeys(calibration.METRICS, False),
}
"""Metric -> whether higher is better."""

_UNBOUNDED = ("log_loss", "brier_score_loss")


def bounds(metric: str) -> tuple[float, float]:
    """Returns the least and the largest value that a metric can have."""
    return statistics.bounds(metric) if metric not in _UNBOUNDED else (0.0, float("inf"))


def estimate(
    labels_N: ArrayLike,
    probabilities: ArrayLike,
    groups_N: Names,
    *,
    metric: str,
    fold_N: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Estimate:
    """Returns a metric with its cluster-bootstrap interval.

    Args:
        labels_N: True class indices.
        probabilities: `[N, K]`; for `roc_auc` and `average_precision`, metrics of two classes, the scores of class 1, `[N]`. With a
            further axis in front, `[M, N, K]` or `[M, N]`, M models whose values are averaged (the mean over seeds). Metrics of a
            ranking or a guess take any finite scores.
        groups_N: The group of each tile.
        metric: A key of `METRICS`.
        fold_N: The fold that held each tile out, where classifiers of several folds made the predictions: the interval is then wider, see
            `resampling.over_folds`.
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Raises:
        UsageError: `HZ-I62` undefined, on all tiles or on most resamples; `HZ-I63` fewer than two groups; `HZ-I64` lengths differ;
            `HZ-I65` not finite, no probabilities, another shape, or no metric of that name.
    """
    sample = _Sample.of(labels_N, _models(probabilities, metric), groups_N, metric=metric, fold_N=fold_N)
    return _weighted(sample, np.full(sample.models, 1 / sample.models), seed=seed, resamples=resamples)


def difference(
    labels_N: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups_N: Names,
    *,
    metric: str,
    fold_N: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Estimate:
    """Returns the metric of `first` minus that of `second` on the same rows and the same resamples.

    For a metric where lower is better, a positive difference means that `second` is better. Arguments and errors as in `estimate`; each of
    the two may hold several models, whose values are averaged.
    """
    firsts, seconds = _models(first, metric), _models(second, metric)
    if firsts.shape[1:] != seconds.shape[1:]:
        raise UsageError(
            "HZ-I64",
            "the models compared did not predict the same rows and classes",
            expected=f"shape {firsts.shape[1:]}",
            got=f"shape {seconds.shape[1:]}",
            next_step="join them by tile name, never by position",
        )
    sample = _Sample.of(labels_N, np.concatenate([firsts, seconds]), groups_N, metric=metric, fold_N=fold_N)
    weights_M = np.concatenate([np.full(len(p), s / len(p)) for p, s in ((firsts, 1.0), (seconds, -1.0))])
    return _weighted(sample, weights_M, seed=seed, resamples=resamples)


def bootstrap(
    labels_N: ArrayLike,
    probabilities: ArrayLike,
    groups_N: Names,
    *,
    metric: str,
    fold_N: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[Floats, Floats]:
    """Returns the metric of M models on all tiles, `[M]`, and on R resamples of the groups, `[R, M]`, NaN where a resample lacks a class.

    What histozoo.evaluate.multiple compares. Arguments and errors as in `estimate`.
    """
    sample = _Sample.of(labels_N, _models(probabilities, metric), groups_N, metric=metric, fold_N=fold_N)
    return sample.values_M, sample.resampled(seed, resamples)


class _Sample(NamedTuple):
    metric: Metric
    values_M: Floats
    tiles: int
    groups: int
    fold_N: ArrayLike | None
    bounds: tuple[float, float]

    @classmethod
    def of(
        cls,
        labels_N: ArrayLike,
        array: Floats,
        groups_N: Names,
        *,
        metric: str,
        fold_N: ArrayLike | None = None,
    ) -> _Sample:
        group_N, groups = group_indices(groups_N, array.shape[1])
        if fold_N is not None:
            same_rows(array.shape[1], len(np.asarray(fold_N)), "folds")
        function = _function(labels_N, array, group_N, metric)
        values_M = function(np.ones((1, groups)))[0]
        for value in values_M:
            defined(float(value), labels_N, metric)
        return cls(function, values_M, array.shape[1], groups, fold_N, bounds(metric))

    @property
    def models(self) -> int:
        return len(self.values_M)

    def resampled(self, seed: int, resamples: int) -> Floats:
        drawn_RM = resample(self.metric, self.groups, width=self.tiles, seed=seed, resamples=resamples)
        return over_folds(self.values_M, drawn_RM, self.fold_N, bounds=self.bounds)


def _weighted(sample: _Sample, weights_M: Floats, *, seed: int, resamples: int) -> Estimate:
    values_R = sample.resampled(seed, resamples) @ weights_M
    low, high = percentiles(values_R)
    return Estimate(
        value=float(sample.values_M @ weights_M),
        low=low,
        high=high,
        n=sample.tiles,
        n_groups=sample.groups,
        resamples=resamples,
        undefined=int(np.isnan(values_R).sum()),
    )


# -- from a name to a function of the draws --------------------------------------------------------------------------------------------


def _models(array: ArrayLike, metric: str) -> Floats:
    """Returns the output with an axis of models in front, one model if it had none."""
    if metric not in METRICS:
        raise UsageError("HZ-I65", f"there is no metric {metric!r}", expected=", ".join(METRICS), got=metric)
    values, axes = np.asarray(array), 1 if metric in auroc.OF_ONE_CLASS else 2
    return values[None] if values.ndim == axes else values


def _function(labels_N: ArrayLike, array: Floats, group_N: Ints, metric: str) -> Metric:
    if metric in auroc.METRICS:
        return ranking(labels_N, array, group_N, metric=metric)
    if metric in calibration.METRICS:
        return probabilistic(labels_N, array, group_N, metric=metric)
    return _of_guesses(labels_N, scores_of(array, metric), group_N, metric)


def _of_guesses(labels_N: ArrayLike, scores_MNK: Floats, group_N: Ints, metric: str) -> Metric:
    _, tiles, classes = scores_MNK.shape
    labels_N = class_indices(labels_N, classes, "labels")
    same_rows(len(labels_N), tiles, "scores")
    groups, cells = int(group_N.max()) + 1, classes**2
    flat_MN = (group_N * classes + labels_N) * classes + scores_MNK.argmax(2)
    counts_M = [np.bincount(flat_N, minlength=groups * cells).reshape(groups, cells) for flat_N in flat_MN]
    function = statistics.METRICS[metric]

    def values(counts_BG: Floats) -> Floats:
        per_model = [function((counts_BG @ c_GX).reshape(-1, classes, classes)) for c_GX in counts_M]
        return np.stack(per_model, 1)

    return values
