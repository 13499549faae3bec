"""Metrics of a ranking on resampled groups: area under the ROC curve, average precision, one-vs-rest macro AUROC.

Tiles are sorted once. A resample gives every tile the number of times that its group was drawn, and a metric of weighted tiles is a
cumulative sum along the order, tied scores together: the same number as scikit-learn's on the rows written out as often as they were
drawn, without writing them out. Weights are whole numbers below 2^53, so the area is exact up to its last division. Where groups are few,
the area is a quadratic form in them (how many pairs of a positive tile of g and a negative tile of h are in order), and the tiles are not
looked at again. numpy only.

Shapes: N tiles, P positive, Q negative, G groups, K classes, M models, R resamples, B of them at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Floats, Ints, Metric, class_indices, same_rows

_PAIRS_PER_TILE = 32  # G^2 / N below which a product with G x G numbers costs less than a walk along N tiles
_PAIRS_AT_MOST = 4_000_000


def roc_auc(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Returns the probability that a positive tile scores above a negative one, ties counting half, in [0, 1].

    Args:
        labels_N: 1 for positive, 0 for negative.
        scores_N: Any finite numbers; higher means positive.

    Raises:
        UsageError: `HZ-I62` a class has no tile, or a label is neither 0 nor 1; `HZ-I64` lengths differ; `HZ-I65` a score is not finite.
    """
    return _alone(labels_N, scores_N, "roc_auc")


def average_precision(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Returns the mean of the precision at each positive tile's score, in (0, 1].

    Not interpolated. Arguments and errors as in `roc_auc`.
    """
    return _alone(labels_N, scores_N, "average_precision")


def roc_auc_ovr(labels_N: ArrayLike, scores_NK: ArrayLike) -> float:
    """Returns the mean over classes of the AUROC of that class against all others, by its column.

    scikit-learn's `roc_auc_score(multi_class="ovr", average="macro")`, which also asks rows to sum to 1; an order needs no such thing.

    Args:
        labels_N: Class indices.
        scores_NK: One column per class.

    Raises:
        UsageError: As in `roc_auc`.
    """
    return _alone(labels_N, scores_NK, "roc_auc_ovr")


def ranking(labels_N: ArrayLike, scores: ArrayLike, group_N: Ints, *, metric: str) -> Metric:
    """Returns the metric as a function of how often each group was drawn, `[B, G] -> [B, M]`.

    Args:
        labels_N: Class indices; 0 and 1 for `roc_auc` and `average_precision`.
        scores: `[M, N]` for `roc_auc` and `average_precision`, `[M, N, K]` for `roc_auc_ovr`.
        group_N: Index of each tile's group.
        metric: A key of `METRICS`.

    Raises:
        UsageError: `HZ-I62` a label is no class index; `HZ-I64` lengths differ; `HZ-I65` a score is not finite, or another shape.
    """
    scores_MNK = scores_of(scores, metric)
    _, tiles, classes = scores_MNK.shape
    labels_N = class_indices(labels_N, max(classes, 2), "labels")
    same_rows(len(labels_N), tiles, "scores")
    columns = range(classes) if classes > 1 else [1]
    functions_MK = [
        [_one_class(labels_N == k, scores_NK[:, i], group_N, metric) for i, k in enumerate(columns)]
        for scores_NK in scores_MNK
    ]

    def values(counts_BG: Floats) -> Floats:
        means = [np.mean([f(counts_BG) for f in functions_K], 0) for functions_K in functions_MK]
        return np.stack(means, 1)

    return values


OF_ONE_CLASS = ("roc_auc", "average_precision")
METRICS = (*OF_ONE_CLASS, "roc_auc_ovr")
"""Names as scikit-learn's scorers. All are undefined where a class has no tile, average precision without a negative one, too."""


def scores_of(scores: ArrayLike, metric: str) -> Floats:
    """Returns scores as `[M, N, K]`, K = 1 for a metric of two classes.

    Raises:
        UsageError: `HZ-I65`, a score is not finite, or the shape is not `[M, N, K]` with 2 or more classes, or `[M, N]` for `roc_auc` and
            `average_precision`.
    """
    array, shape = np.asarray(scores), "[models, tiles, classes], two classes or more"
    if metric in OF_ONE_CLASS:
        array, shape = array[..., None], "[models, tiles], the scores of class 1"
    if array.ndim != 3 or (array.shape[2] < 2 and metric not in OF_ONE_CLASS):
        raise UsageError(
            "HZ-I65",
            f"scores have not the shape that {metric} needs",
            expected=shape,
            got=f"shape {np.shape(scores)}",
        )
    finite(array, "scores")
    return array.astype(np.float64)


def finite(values: NDArray[np.generic], name: str) -> None:
    """Refuses what is not finite: NaN has no place in an order, and libraries put it at either end.

    Args:
        values: `[M, N, ...]`.
        name: What they are, for the message.

    Raises:
        UsageError: `HZ-I65`, with the first five rows concerned.
    """
    numeric = values.dtype.kind in "fiub"
    fine = np.isfinite(values) if numeric else np.zeros(values.shape, dtype=bool)
    rows = np.flatnonzero(~fine.all(axis=tuple(a for a in range(values.ndim) if a != 1)))
    if len(rows):
        raise UsageError(
            "HZ-I65",
            f"{name} are not finite numbers",
            where=f"rows {', '.join(map(str, rows[:5]))}" + (" ..." if len(rows) > 5 else ""),
            expected=f"{values.shape[1]} rows of finite numbers",
            got=f"{len(rows)} rows with NaN or infinity" if numeric else f"{values.dtype} values",
            kept="nothing was scored",
            next_step="find why the model gave them; do not replace them by a number",
        )


# -- one class against the rest --------------------------------------------------------------------------------------------------------


class _Order(NamedTuple):
    """Tiles from the highest score down: the groups of the positive and the negative ones, and how far each positive one reaches."""

    group_P: Ints
    group_Q: Ints
    above_P: Ints  # negative tiles with a higher score
    upto_P: Ints  # negative tiles with a score as high or higher
    tied_P: Ints  # positive tiles with a score as high or higher, itself among them


def _order(positive_N: NDArray[np.bool_], scores_N: Floats, group_N: Ints) -> _Order:
    down_N = np.argsort(-scores_N, kind="stable")
    rows_P, rows_Q = down_N[positive_N[down_N]], down_N[~positive_N[down_N]]
    falls_P, falls_Q = -scores_N[rows_P], -scores_N[rows_Q]
    return _Order(
        group_N[rows_P],
        group_N[rows_Q],
        np.searchsorted(falls_Q, falls_P, "left"),
        np.searchsorted(falls_Q, falls_P, "right"),
        np.searchsorted(falls_P, falls_P, "right"),
    )


def _one_class(positive_N: NDArray[np.bool_], scores_N: Floats, group_N: Ints, metric: str) -> Metric:
    order, groups = _order(positive_N, scores_N, group_N), int(group_N.max(initial=0)) + 1
    if metric == "average_precision":
        return lambda counts_BG: _precision_along(counts_BG, order)
    if groups**2 > min(_PAIRS_PER_TILE * len(group_N), _PAIRS_AT_MOST):
        return lambda counts_BG: _area_along(counts_BG, order)
    twice_GG = _pairs(order, groups)
    positive_G = np.bincount(order.group_P, minlength=groups).astype(np.float64)
    negative_G = np.bincount(order.group_Q, minlength=groups).astype(np.float64)

    def values(counts_BG: Floats) -> Floats:
        twice_B = np.einsum("bg,bg->b", counts_BG @ twice_GG, counts_BG)
        return _divided(twice_B, 2 * (counts_BG @ positive_G) * (counts_BG @ negative_G))

    return values


def _area_along(counts_BG: Floats, order: _Order) -> Floats:
    weight_BP, down_BQ = counts_BG.take(order.group_P, 1), _cumulated(counts_BG.take(order.group_Q, 1))
    wrong_B = np.einsum("bp,bp->b", weight_BP, down_BQ.take(order.above_P, 1) + down_BQ.take(order.upto_P, 1))
    twice_B = 2 * weight_BP.sum(1) * down_BQ[:, -1]
    return _divided(twice_B - wrong_B, twice_B)


def _precision_along(counts_BG: Floats, order: _Order) -> Floats:
    weight_BP, down_BQ = counts_BG.take(order.group_P, 1), _cumulated(counts_BG.take(order.group_Q, 1))
    right_BP = _cumulated(weight_BP).take(order.tied_P, 1)
    called_BP = right_BP + down_BQ.take(order.upto_P, 1)
    precision_BP = right_BP / np.maximum(
        called_BP, 1
    )  # nothing called yet: nothing was drawn there, its weight is 0
    both_B = weight_BP.sum(1) * (down_BQ[:, -1] > 0)
    return _divided(np.einsum("bp,bp->b", weight_BP, precision_BP), both_B)


def _cumulated(weight_BX: Floats) -> Floats:
    sums = np.zeros((weight_BX.shape[0], weight_BX.shape[1] + 1))
    np.cumsum(weight_BX, axis=1, out=sums[:, 1:])
    return sums


def _divided(part_B: Floats, whole_B: Floats) -> Floats:
    """Returns the quotient, NaN where a class has no tile."""
    quotient_B: Floats = np.full(len(part_B), np.nan)
    return np.divide(part_B, whole_B, out=quotient_B, where=whole_B > 0)


def _pairs(order: _Order, groups: int) -> Floats:
    """Returns for groups g and h twice the pairs of a positive tile of g and a negative one of h that are in order, ties counting once."""
    twice_GG = np.empty((groups, groups))
    for h in range(groups):
        mine_Q = np.flatnonzero(order.group_Q == h)
        above_P = np.searchsorted(mine_Q, order.above_P) + np.searchsorted(mine_Q, order.upto_P)
        twice_GG[:, h] = np.bincount(order.group_P, weights=2.0 * len(mine_Q) - above_P, minlength=groups)
    return twice_GG


def _alone(labels_N: ArrayLike, scores: ArrayLike, metric: str) -> float:
    rows = len(np.atleast_1d(np.asarray(labels_N)))
    values = ranking(labels_N, np.asarray(scores)[None], np.zeros(rows, dtype=np.int64), metric=metric)
    return defined(float(values(np.ones((1, 1)))[0, 0]), labels_N, metric)


def defined(value: float, labels_N: ArrayLike, metric: str) -> float:
    """Refuses NaN, which is what a metric gives where a class has no tile.

    Raises:
        UsageError: `HZ-I62`, with the classes that are there.
    """
    if np.isnan(value):
        present = np.unique(np.asarray(labels_N)).tolist()
        raise UsageError(
            "HZ-I62",
            f"{metric} is undefined: a class has no tile",
            expected="at least one tile of every class",
            got=f"{np.size(labels_N)} tiles, of class index {', '.join(map(str, present)) or 'none'}",
            next_step="score rows that hold every class, or declare a task without the absent one",
        )
    return value
