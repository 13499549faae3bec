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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histozoo.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval.

    Args:
        value: The metric on all tiles.
        low, high: Ends of the percentile interval.
        n: Tiles.
        n_groups: Groups, the unit resampled.
        resamples: Resamples drawn.
        undefined: How many of them lacked a class and were left out.
    """

    value: float
    low: float
    high: float
    n: int
    n_groups: int
    resamples: int
    undefined: int

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        return self.low, self.high


def confusion(labels_N: ArrayLike, guesses_N: ArrayLike, classes: int) -> Ints:
    """Returns `[K, K]` counts: rows are true classes, columns guesses.

    Raises:
        UsageError: `HZ-I62` a class index outside 0..classes-1; `HZ-I64` as many guesses as labels are needed.
    """
    labels_N, guesses_N = _indices(labels_N, classes, "labels"), _indices(guesses_N, classes, "guesses")
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


METRICS = {"accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy}
"""Metric -> function of confusion matrices `[..., K, K]`, NaN where it is undefined."""


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
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Raises:
        UsageError: `HZ-I62` undefined, on all tiles or on most resamples; `HZ-I63` fewer than two groups; `HZ-I64` lengths differ.
    """
    guesses_MN = np.atleast_2d(np.asarray(guesses_N))
    weights_M = np.full(len(guesses_MN), 1 / len(guesses_MN))
    options = _Options(classes, metric, seed, resamples)
    return _weighted(labels_N, guesses_MN, groups_N, weights_M=weights_M, options=options)


def difference(
    labels_N: ArrayLike,
    first_N: ArrayLike,
    second_N: ArrayLike,
    groups_N: Sequence[str] | NDArray[Any],
    *,
    classes: int,
    metric: str = "balanced_accuracy",
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
    options = _Options(classes, metric, seed, resamples)
    return _weighted(labels_N, both_MN, groups_N, weights_M=weights_M, options=options)


def bootstrap(
    labels_N: ArrayLike,
    guesses_MN: ArrayLike,
    groups_N: Sequence[str] | NDArray[Any],
    *,
    classes: int,
    metric: str = "balanced_accuracy",
    seed: int = 0,
    resamples: int = 10_000,
) -> Floats:
    """Returns the metric of M models on R resamples of the groups, `[R, M]`, NaN where a resample lacks a class.

    Groups with equal confusion matrices are interchangeable, so their multiplicities are drawn together, from the multinomial
    distribution over distinct matrices; the result has exactly the distribution of drawing G groups one by one.

    Raises:
        UsageError: `HZ-I62` an index is no class; `HZ-I63` fewer than two groups; `HZ-I64` lengths differ.
    """
    counts_GX, models = _group_counts(labels_N, guesses_MN, groups_N, classes)
    patterns_PX, times_P = np.unique(counts_GX, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    values, at_once = [], max(1, _DRAWS_AT_ONCE // len(patterns_PX))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn_RP = generator.multinomial(len(counts_GX), times_P / len(counts_GX), size=size)
        counts_RX = drawn_RP.astype(np.float64) @ patterns_PX
        values.append(METRICS[metric](counts_RX.reshape(size, models, classes, classes)))
    return np.concatenate(values)


def _group_counts(
    labels_N: ArrayLike, guesses_MN: ArrayLike, groups_N: Sequence[str] | NDArray[Any], classes: int
) -> tuple[Floats, int]:
    """Returns each group's M confusion matrices as one row, `[G, M * K * K]`, and M."""
    labels_N, guesses_MN = _indices(labels_N, classes, "labels"), _indices(guesses_MN, classes, "guesses")
    models, tiles = guesses_MN.shape
    same_rows(len(labels_N), tiles, "guesses")
    same_rows(len(labels_N), len(groups_N), "groups")
    names, group_N = np.unique(np.asarray(groups_N), return_inverse=True)
    if len(names) < 2:
        raise UsageError(
            "HZ-I63",
            "an interval needs at least two groups",
            expected="2 or more groups (patients, slides, photographs)",
            got=f"{len(names)} groups, {tiles} tiles",
            next_step="state the value without an interval, or name the groups in the task",
        )
    cell_MN = labels_N * classes + guesses_MN
    size = models * classes**2
    flat_MN = group_N * size + np.arange(models)[:, None] * classes**2 + cell_MN
    counts = np.bincount(flat_MN.ravel(), minlength=len(names) * size).astype(np.float64)
    return counts.reshape(len(names), size), models


class _Options(NamedTuple):
    classes: int
    metric: str
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


def percentiles(values_R: Floats) -> tuple[float, float]:
    """Returns the ends of the central 95 % of the defined values.

    Raises:
        UsageError: `HZ-I62`, more than half of the resamples are undefined.
    """
    defined = values_R[~np.isnan(values_R)]
    if 2 * len(defined) < len(values_R):
        raise UsageError(
            "HZ-I62",
            "the interval is undefined: most resamples lack a class",
            expected="a class in enough groups that at least half of the resamples hold it",
            got=f"{len(defined)} of {len(values_R)} resamples defined",
            next_step="state the value without an interval, or take the rare class out of the task",
        )
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _indices(values: ArrayLike, classes: int, name: str) -> Ints:
    indices = np.asarray(values)
    whole = indices.dtype.kind in "iu" and bool(((indices >= 0) & (indices < classes)).all())
    if not whole:
        raise UsageError(
            "HZ-I62",
            f"{name} are no class indices",
            expected=f"integers from 0 to {classes - 1}",
            got=f"{indices.dtype} values: {', '.join(map(str, indices.ravel()[:5]))}",
        )
    return indices.astype(np.int64)


def same_rows(labels: int, others: int, what: str) -> None:
    """Refuses rows that cannot belong together.

    Raises:
        UsageError: `HZ-I64`, their numbers differ.
    """
    if labels != others:
        raise UsageError(
            "HZ-I64",
            f"labels and {what} are not of the same rows",
            expected=f"{labels} rows",
            got=f"{others} rows",
            next_step="join them by tile name, never by position",
        )
