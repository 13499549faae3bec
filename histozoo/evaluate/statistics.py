"""Metrics of a confusion matrix and their intervals: groups are resampled, never tiles.

Tiles of one patient resemble each other, so an interval over tiles is several times too narrow. Every
interval here is a cluster bootstrap: whole groups are drawn with replacement. All metrics are functions of
the confusion matrix, so a resample is a weighted sum of the groups' own matrices and 10,000 resamples are one
matrix product. A resample in which a class has no tile leaves balanced accuracy undefined: it is left out,
and how often that happened is part of the answer (HZ-I62). numpy only.

Shapes: N tiles, G groups, K classes, M subjects compared (models), R resamples, T tasks. A matrix
`counts_KK[i, j]` counts tiles of class i called j.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import (
    Estimate,
    Floats,
    Ints,
    class_indices,
    group_indices,
    over_folds,
    percentiles,
    same_rows,
)

__all__ = [
    "METRICS",
    "Estimate",
    "Floats",
    "Ints",
    "accuracy",
    "balanced_accuracy",
    "bootstrap",
    "confusion",
    "difference",
    "estimate",
    "percentiles",
    "same_rows",
    "value",
]

_DRAWS_AT_ONCE = 4_000_000


def confusion(labels_N: ArrayLike, guesses_N: ArrayLike, classes: int) -> Ints:
    """Returns `[K, K]` counts: rows are true classes, columns guesses.

    Raises:
        UsageError: `HZ-I62` a class index outside 0..classes-1; `HZ-I64` as many guesses as labels are needed.
    """
    labels_N, guesses_N = (
        class_indices(labels_N, classes, "labels"),
        class_indices(guesses_N, classes, "guesses"),
    )
    same_rows(len(labels_N), len(guesses_N), "guesses")
    return np.bincount(labels_N * classes + guesses_N, minlength=classes**2).reshape(classes, classes)


def accuracy(labels_N: ArrayLike, guesses_N: ArrayLike, classes: int) -> float:
    """Returns the share of tiles whose guess is right, in [0, 1]; errors as in `balanced_accuracy`."""
    return _defined(confusion(labels_N, guesses_N, classes), "accuracy")


def balanced_accuracy(labels_N: ArrayLike, guesses_N: ArrayLike, classes: int) -> float:
    """Returns the mean over classes of the share of its tiles guessed right, in [0, 1].

    Raises:
        UsageError: `HZ-I62` a class has no tile, so that the metric is undefined (scikit-learn would average over the others).
    """
    return _defined(confusion(labels_N, guesses_N, classes), "balanced_accuracy")


def _accuracy(counts_RKK: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        right_R: Floats = np.trace(counts_RKK, axis1=-2, axis2=-1) / counts_RKK.sum((-2, -1))
    return right_R


def _balanced_accuracy(counts_RKK: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        recalls_RK: Floats = np.diagonal(counts_RKK, axis1=-2, axis2=-1) / counts_RKK.sum(-1)
    values_R: Floats = recalls_RK.mean(-1)
    return values_R


def _f1_macro(counts_RKK: Floats) -> Floats:
    rows_RK, columns_RK = counts_RKK.sum(-1), counts_RKK.sum(-2)
    hits_RK = np.diagonal(counts_RKK, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        f1_RK: Floats = np.where(rows_RK > 0, 2 * hits_RK / (rows_RK + columns_RK), np.nan)
    values_R: Floats = f1_RK.mean(-1)
    return values_R


def _cohen_kappa_quadratic(counts_RKK: Floats) -> Floats:
    classes = np.arange(counts_RKK.shape[-1])
    apart_KK = (classes[:, None] - classes) ** 2.0
    rows_RK, columns_RK = counts_RKK.sum(-1), counts_RKK.sum(-2)
    seen_R = (counts_RKK * apart_KK).sum((-2, -1))
    by_chance_R = ((rows_RK @ apart_KK) * columns_RK).sum(-1)
    with np.errstate(invalid="ignore"):
        values_R: Floats = 1 - seen_R * rows_RK.sum(-1) / by_chance_R
    return values_R


METRICS = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
    "cohen_kappa_quadratic": _cohen_kappa_quadratic,
}
"""Metric -> function of confusion matrices `[..., K, K]`, NaN where it is undefined. Names as scikit-learn's scorers, kappa's made alike.

Balanced accuracy and macro F1 are undefined where a class has no tile; quadratic kappa (classes in their order are grades) where all
labels and guesses are one class.
"""


def bounds(metric: str) -> tuple[float, float]:
    """Returns the least and the largest value that a key of `METRICS` can have."""
    return (-1.0, 1.0) if metric == "cohen_kappa_quadratic" else (0.0, 1.0)


def value(labels_N: ArrayLike, guesses_N: ArrayLike, classes: int, *, metric: str) -> float:
    """Returns a key of `METRICS` on all tiles; errors as in `balanced_accuracy`."""
    return _defined(confusion(labels_N, guesses_N, classes), metric)


def _defined(counts_KK: Ints, metric: str) -> float:
    value = float(METRICS[metric](counts_KK.astype(np.float64)))
    if np.isnan(value):
        absent = np.flatnonzero(counts_KK.sum(1) == 0).tolist()
        raise UsageError(
            "HZ-I62",
            f"{metric} is undefined: a class has no tile",
            where=f"class index {', '.join(map(str, absent))}",
            expected=f"at least one tile of each of {len(counts_KK)} classes",
            got=f"{counts_KK.sum()} tiles, {len(absent)} classes absent",
            next_step="score rows that hold every class, or declare a task without the absent one",
        )
    return value


def estimate(
    labels_N: ArrayLike,
    guesses_N: ArrayLike,
    groups_N: Sequence[str] | NDArray[Any],
    *,
    classes: int,
    metric: str = "balanced_accuracy",
    fold_N: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Estimate:
    """Returns a metric with its cluster-bootstrap interval.

    Args:
        labels_N: True class indices.
        guesses_N: Guessed class indices; `[M, N]` for M models, whose values are then averaged (the mean over seeds).
        groups_N: The group of each tile.
        classes: Number of classes K.
        metric: A key of `METRICS`.
        fold_N: The fold that held each tile out, where classifiers of several folds made the guesses: the interval is then wider, see
            `resampling.over_folds`.
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Raises:
        UsageError: `HZ-I62` undefined, on all tiles or on most resamples; `HZ-I63` fewer than two groups; `HZ-I64` lengths differ.
    """
    guesses_MN = np.atleast_2d(np.asarray(guesses_N))
    weights_M = np.full(len(guesses_MN), 1 / len(guesses_MN))
    options = _Options(classes, metric, fold_N, seed, resamples)
    return _weighted(labels_N, guesses_MN, groups_N, weights_M=weights_M, options=options)


def difference(
    labels_N: ArrayLike,
    first_N: ArrayLike,
    second_N: ArrayLike,
    groups_N: Sequence[str] | NDArray[Any],
    *,
    classes: int,
    metric: str = "balanced_accuracy",
    fold_N: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Estimate:
    """Returns the metric of `first_N` minus that of `second_N` on the same rows, every resample drawing the same groups for both.

    Arguments and errors as in `estimate`; each of the two may be `[M, N]`, M models whose values are averaged.
    """
    first_MN, second_MN = (np.atleast_2d(np.asarray(g)) for g in (first_N, second_N))
    same_rows(first_MN.shape[1], second_MN.shape[1], "guesses")
    weights_M = np.concatenate(
        [np.full(len(g), sign / len(g)) for g, sign in ((first_MN, 1.0), (second_MN, -1.0))]
    )
    both_MN = np.concatenate([first_MN, second_MN])
    options = _Options(classes, metric, fold_N, seed, resamples)
    return _weighted(labels_N, both_MN, groups_N, weights_M=weights_M, options=options)


def bootstrap(
    labels_N: ArrayLike,
    guesses_MN: ArrayLike,
    groups_N: Sequence[str] | NDArray[Any],
    *,
    classes: int,
    metric: str = "balanced_accuracy",
    fold_N: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Floats:
    """Returns the metric of M models on R resamples of the groups, `[R, M]`, NaN where a resample lacks a class.

    Groups with equal confusion matrices are interchangeable, so their multiplicities are drawn together, from the multinomial
    distribution over distinct matrices; the result has exactly the distribution of drawing G groups one by one. With `fold_N` it is
    spread as `resampling.over_folds` says.

    Raises:
        UsageError: `HZ-I62` an index is no class; `HZ-I63` fewer than two groups; `HZ-I64` lengths differ.
    """
    counts_GX, models = _group_counts(labels_N, guesses_MN, groups_N, classes)
    if fold_N is not None:
        same_rows(len(np.asarray(groups_N)), len(np.asarray(fold_N)), "folds")
    patterns_PX, times_P = np.unique(counts_GX, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    values, at_once = [], max(1, _DRAWS_AT_ONCE // len(patterns_PX))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn_RP = generator.multinomial(len(counts_GX), times_P / len(counts_GX), size=size)
        counts_RX = drawn_RP.astype(np.float64) @ patterns_PX
        values.append(METRICS[metric](counts_RX.reshape(size, models, classes, classes)))
    values_M = METRICS[metric](counts_GX.sum(0).reshape(models, classes, classes))
    return over_folds(values_M, np.concatenate(values), fold_N, bounds=bounds(metric))


def _group_counts(
    labels_N: ArrayLike, guesses_MN: ArrayLike, groups_N: Sequence[str] | NDArray[Any], classes: int
) -> tuple[Floats, int]:
    """Returns each group's M confusion matrices as one row, `[G, M * K * K]`, and M."""
    labels_N, guesses_MN = (
        class_indices(labels_N, classes, "labels"),
        class_indices(guesses_MN, classes, "guesses"),
    )
    models, tiles = guesses_MN.shape
    same_rows(len(labels_N), tiles, "guesses")
    group_N, groups = group_indices(groups_N, tiles)
    cell_MN = labels_N * classes + guesses_MN
    size = models * classes**2
    flat_MN = group_N * size + np.arange(models)[:, None] * classes**2 + cell_MN
    counts = np.bincount(flat_MN.ravel(), minlength=groups * size).astype(np.float64)
    return counts.reshape(groups, size), models


class _Options(NamedTuple):
    classes: int
    metric: str
    fold_N: ArrayLike | None
    seed: int
    resamples: int


def _weighted(
    labels_N: ArrayLike,
    guesses_MN: NDArray[Any],
    groups_N: Sequence[str] | NDArray[Any],
    *,
    weights_M: Floats,
    options: _Options,
) -> Estimate:
    """Returns the weighted sum of M models' metrics with its interval."""
    counts_M = [confusion(labels_N, g, options.classes) for g in guesses_MN]
    values_M = np.array([_defined(counts_KK, options.metric) for counts_KK in counts_M])
    values_R = bootstrap(labels_N, guesses_MN, groups_N, **options._asdict()) @ weights_M
    low, high = percentiles(values_R)
    return Estimate(
        value=float(values_M @ weights_M),
        low=low,
        high=high,
        n=guesses_MN.shape[1],
        n_groups=len(np.unique(np.asarray(groups_N))),
        resamples=options.resamples,
        undefined=int(np.isnan(values_R).sum()),
    )
