"""k nearest neighbours by cosine: what the geometry of features says without anything learnt.

Features are centred by the mean of the training rows and brought to length 1 (as in UNI's evaluation code); the k most similar training
rows vote, and the share of votes is the probability. Exact: every pair is compared. k from the grid of THUNDER, by inner grouped folds.

Shapes: N tiles, M tiles asked about, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.crossval import Family, predictions
from histozoo.evaluate.protocol import Parts, Predictions

KS = (50, 40, 30, 20, 10, 5, 3, 1)
"""Numbers of neighbours tried; among equals the largest wins, which is the smoothest."""

_PAIRS_AT_ONCE = 1 << 24  # 64 MB of float32


def knn(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    groups_N: Sequence[str] | NDArray[Any],
    *,
    seed: int,
    folds: int = 5,
    split: Parts | None = None,
    ks: Sequence[int] = KS,
) -> Predictions:
    """Predicts every row by grouped folds, or the test rows of a split; k is chosen on its validation rows, or by inner folds.

    A k above the number of training rows takes all of them. Of classes with equal votes the first is the guess.

    Raises:
        UsageError: `HZ-I62` a class is missing on one side; `HZ-I63` fewer groups than folds, or a group on two sides of the split;
            `HZ-I64` rows differ; `HZ-U50` no k, or one below 1.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    if any(k < 1 or k != int(k) for k in ks):
        raise UsageError(
            "HZ-U50", "a number of neighbours cannot be this", expected="1 or more", got=list(ks)
        )
    settings = tuple(float(k) for k in sorted(ks, reverse=True))
    family = Family(scorer=votes, settings=settings, probabilities=True)
    return predictions(family, f_ND, labels_N, groups_N, seed=seed, folds=folds, split=split)


def votes(
    f_ND: NDArray[Any], index_N: NDArray[np.int64], query_MD: NDArray[Any], *, settings: Sequence[float]
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Gives (k, share of votes of each class `[M, K]`); arguments as in `crossval.Scorer`."""
    ks = [min(int(k), len(f_ND)) for k in settings]
    mean_D = f_ND.mean(0, dtype=np.float64)
    nearest_MJ = neighbours(unit(f_ND - mean_D), unit(query_MD - mean_D), max(ks))
    classes = int(index_N.max()) + 1
    for setting, k in zip(settings, ks, strict=True):
        cells_MJ = index_N[nearest_MJ[:, :k]] + classes * np.arange(len(query_MD))[:, None]
        counts = np.bincount(cells_MJ.ravel(), minlength=classes * len(query_MD))
        yield setting, counts.reshape(-1, classes) / k


def neighbours(x_ND: NDArray[np.float32], query_MD: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Returns the rows of the k largest inner products with each query, the largest first; of equal ones the earlier row first.

    Args:
        x_ND: Rows to choose from.
        query_MD: Rows asked about.
        k: At most N.
    """
    at_once = max(1, _PAIRS_AT_ONCE // len(x_ND))
    found = np.empty((len(query_MD), k), dtype=np.int64)
    for start in range(0, len(query_MD), at_once):
        similar_BN = query_MD[start : start + at_once] @ x_ND.T
        nearest_BK = np.sort(np.argpartition(-similar_BN, k - 1, axis=1)[:, :k], axis=1)
        order_BK = np.argsort(-np.take_along_axis(similar_BN, nearest_BK, 1), axis=1, kind="stable")
        found[start : start + at_once] = np.take_along_axis(nearest_BK, order_BK, 1)
    return found


def unit(f_ND: NDArray[Any]) -> NDArray[np.float32]:
    """Returns rows of length 1; a row of zeros stays."""
    length_N1 = np.linalg.norm(f_ND, axis=1, keepdims=True)
    x_ND: NDArray[np.float32] = (f_ND / np.where(length_N1 > 0, length_N1, 1.0)).astype(np.float32)
    return x_ND
