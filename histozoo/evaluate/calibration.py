"""Whether probabilities can be believed: log loss, Brier score, expected calibration error and the table behind it.

Each is a function of sums over tiles, so a resample of groups is a weighted sum of the groups' own sums. Calibration error: the most
probable class of each tile, 15 bins of equal width, open below and closed above (Guo et al. 2017, section 2; 5 bins, as in some suites,
hide what they average over). It cannot be negative and is above zero by chance alone, the more so the fewer tiles there are: a resample
repeats tiles, so its calibration error is larger still, and the interval of that metric lies higher than its value. Compare models by their
paired difference, not by whether one of them reaches zero. numpy only.

Shapes: N tiles, G groups, K classes, M models, E bins, X sums, B resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from histozoo.errors import UsageError
from histozoo.evaluate.auroc import finite
from histozoo.evaluate.resampling import Floats, Ints, Metric, class_indices, same_rows

BINS = 15
_SUM_WITHIN = 1e-3  # softmax in bfloat16 over many classes is off by as much


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What was promised and what came true, by bin of confidence.

    Args:
        edges: Ends of the bins, E + 1 from 0 to 1.
        tiles_E: Tiles whose highest probability is in the bin: above the lower end, up to the upper one.
        confidence_E: Their mean highest probability, NaN in an empty bin.
        accuracy_E: The share of them whose most probable class is right, NaN in an empty bin.
        error: Expected calibration error: mean over tiles of the distance between the two, in [0, 1].
        largest_error: The largest distance of any bin that holds a tile.
    """

    edges: tuple[float, ...]
    tiles_E: tuple[int, ...]
    confidence_E: tuple[float, ...]
    accuracy_E: tuple[float, ...]
    error: float
    largest_error: float


def reliability(labels_N: ArrayLike, probabilities_NK: ArrayLike, *, bins: int = BINS) -> Reliability:
    """Returns the reliability table of one model.

    Args:
        labels_N: Class indices.
        probabilities_NK: Rows of probabilities; among equal ones the first class counts as the guess.
        bins: Number of bins.

    Raises:
        UsageError: `HZ-I62` a label is no class index, or there is no tile; `HZ-I64` lengths differ; `HZ-I65` a row holds no probabilities.
    """
    labels_N, p_MNK = checked(labels_N, np.asarray(probabilities_NK)[None])
    sums_EX = _bin_sums(labels_N, p_MNK[0], bins).sum(0).reshape(bins, 3)
    tiles_E, confidence_E, right_E = sums_EX.T
    with np.errstate(invalid="ignore"):
        confidence_E, accuracy_E = confidence_E / tiles_E, right_E / tiles_E
    gaps_E = np.abs(confidence_E - accuracy_E)[tiles_E > 0]
    return Reliability(
        edges=tuple(np.linspace(0, 1, bins + 1).tolist()),
        tiles_E=tuple(tiles_E.astype(int).tolist()),
        confidence_E=tuple(confidence_E.tolist()),
        accuracy_E=tuple(accuracy_E.tolist()),
        error=float((gaps_E * tiles_E[tiles_E > 0]).sum() / len(labels_N)),
        largest_error=float(gaps_E.max()),
    )


def probabilistic(labels_N: ArrayLike, probabilities_MNK: ArrayLike, group_N: Ints, *, metric: str) -> Metric:
    """Returns the metric as a function of how often each group was drawn, `[B, G] -> [B, M]`; lower is better for all.

    Args:
        labels_N: Class indices.
        probabilities_MNK: Probabilities of M models.
        group_N: Index of each tile's group.
        metric: A key of `METRICS`.

    Raises:
        UsageError: `HZ-I62`, `HZ-I64`, `HZ-I65` as in `reliability`.
    """
    labels_N, p_MNK = checked(labels_N, probabilities_MNK)
    groups, kind = int(group_N.max()) + 1, METRICS[metric]
    sums_MGX = [_by_group(kind.sums(labels_N, p_NK), group_N, groups) for p_NK in p_MNK]
    tiles_G = np.bincount(group_N, minlength=groups).astype(np.float64)

    def values(counts_BG: Floats) -> Floats:
        per_model = [kind.value(counts_BG @ sums_GX, counts_BG @ tiles_G) for sums_GX in sums_MGX]
        return np.stack(per_model, 1)

    return values


def checked(labels_N: ArrayLike, probabilities_MNK: ArrayLike) -> tuple[Ints, Floats]:
    """Returns labels and probabilities as arrays, `[N]` and `[M, N, K]`.

    Raises:
        UsageError: `HZ-I62`, `HZ-I64`, `HZ-I65` as in `reliability`.
    """
    p_MNK = np.asarray(probabilities_MNK)
    if p_MNK.ndim != 3 or p_MNK.shape[2] < 2:
        raise _no_probabilities("[models, tiles, classes], two classes or more", f"shape {p_MNK.shape}")
    finite(p_MNK, "probabilities")
    p_MNK = p_MNK.astype(np.float64)
    labels_N = class_indices(labels_N, p_MNK.shape[2], "labels")
    same_rows(len(labels_N), p_MNK.shape[1], "probabilities")
    if not len(labels_N):
        raise UsageError("HZ-I62", "nothing can be measured of no tile", expected="one tile or more", got=0)
    off_MN = np.abs(p_MNK.sum(2) - 1)
    if p_MNK.min() < 0 or p_MNK.max() > 1 or off_MN.max() > _SUM_WITHIN:
        raise _no_probabilities(
            f"values from 0 to 1 that sum to 1 within {_SUM_WITHIN}",
            f"values from {p_MNK.min():.4g} to {p_MNK.max():.4g}, sums off by up to {off_MN.max():.4g}",
        )
    return labels_N, p_MNK


def _no_probabilities(expected: str, got: str) -> UsageError:
    step = "apply softmax to logits; metrics of a ranking take any scores"
    return UsageError("HZ-I65", "rows are no probabilities", expected=expected, got=got, next_step=step)


# -- the metrics: sums over tiles, and a function of sums ------------------------------------------------------------------------------


class _Kind(NamedTuple):
    sums: Callable[[Ints, Floats], Floats]
    """Labels `[N]` and probabilities `[N, K]` -> what is summed over tiles, `[N, X]`."""
    value: Callable[[Floats, Floats], Floats]
    """Sums `[B, X]` and tiles `[B]` -> the metric, `[B]`."""


def _log_loss(labels_N: Ints, p_NK: Floats) -> Floats:
    p_N = p_NK[np.arange(len(labels_N)), labels_N]
    least = np.finfo(np.float64).eps  # scikit-learn's floor for float64: a certain mistake costs 36
    return -np.log(np.clip(p_N, least, 1 - least))[:, None]


def _brier(labels_N: Ints, p_NK: Floats) -> Floats:
    classes = p_NK.shape[1]
    truth_NK = np.eye(classes)[labels_N]
    scale = 0.5 if classes == 2 else 1.0  # scikit-learn's: in [0, 1] for two classes, in [0, 2] for more
    squares_N1: Floats = scale * ((p_NK - truth_NK) ** 2).sum(1, keepdims=True)
    return squares_N1


def _bin_sums(labels_N: Ints, p_NK: Floats, bins: int = BINS) -> Floats:
    """Returns per tile and bin: whether it is in, its confidence, whether it is right; `[N, 3 E]`, zero outside its bin."""
    guesses_N, confidence_N = p_NK.argmax(1), p_NK.max(1)
    bin_N = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence_N, "left")
    tile_NX = np.stack([np.ones(len(labels_N)), confidence_N, guesses_N == labels_N], 1)
    sums_NEX = np.zeros((len(labels_N), bins, 3))
    sums_NEX[np.arange(len(labels_N)), bin_N] = tile_NX
    return sums_NEX.reshape(len(labels_N), -1)


def _calibration_error(sums_BX: Floats, tiles_B: Floats) -> Floats:
    sums_BEX = sums_BX.reshape(len(sums_BX), -1, 3)
    gaps_B: Floats = np.abs(sums_BEX[..., 1] - sums_BEX[..., 2]).sum(1) / tiles_B
    return gaps_B


def _mean(sums_BX: Floats, tiles_B: Floats) -> Floats:
    return sums_BX[:, 0] / tiles_B


def _by_group(sums_NX: Floats, group_N: Ints, groups: int) -> Floats:
    columns = [np.bincount(group_N, weights=column, minlength=groups) for column in sums_NX.T]
    return np.stack(columns, 1).astype(np.float64)


METRICS = {
    "log_loss": _Kind(_log_loss, _mean),
    "brier_score_loss": _Kind(_brier, _mean),
    "expected_calibration_error": _Kind(_bin_sums, _calibration_error),
}
"""Names as scikit-learn's functions; it has no calibration error. Lower is better."""
