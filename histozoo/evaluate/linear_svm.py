"""The linear support vector machine of Mormont et al. (2021), section III: raw features, C from 1e-10 to 1, grouped 5-fold choice, refit.

Objective, as LIBLINEAR's default and scikit-learn's LinearSVC (Fan et al. 2008): 1/2 ||w||^2 + C sum_i max(0, 1 - y_i w.x_i)^2 per class
against the rest, the bias being the weight of a further feature that is always 1, and penalised like the others. Features are not
standardised and classes not weighted, since the paper says nothing of either; C is chosen by accuracy. All classes are solved together, in
the coordinates of logistic.py, each C from the solution of the one before. A fit that has not converged is an error, never a number.

Shapes: N tiles, M tiles asked about, D features, R rank, K classes (one column where there are two).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.crossval import Family, predictions
from histozoo.evaluate.logistic_fit import Floats, rotate
from histozoo.evaluate.protocol import Parts, Predictions

CS = tuple(10.0**power for power in range(-10, 1))
"""The paper's grid."""

_TOLERANCE = 1e-6  # of the largest preconditioned gradient entry, as a share of the one at zero weights
_MAX_STEPS = 5_000


def linear_svm(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    groups_N: Sequence[str] | NDArray[Any],
    *,
    seed: int,
    folds: int = 5,
    split: Parts | None = None,
    cs: Sequence[float] = CS,
) -> Predictions:
    """Predicts every row by grouped folds, or the test rows of a split, whose validation rows are then training rows as in the paper.

    Scores are distances in units of the margin, one classifier per class: good for a ranking, no probabilities. Those of several folds come
    from several classifiers and are pooled as they are; `fold_scores` ranks within each fold.

    Raises:
        UsageError: `HZ-I62` a class is missing on one side; `HZ-I63` fewer groups than folds, or a group on two sides of the split;
            `HZ-I64` rows differ; `HZ-U50` no C; `HZ-U51` not converged.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    family = Family(
        scorer=_scores,
        settings=tuple(sorted(cs)),
        probabilities=False,
        inner=5,
        balanced=False,
        merge_val=True,
    )
    return predictions(family, f_ND, labels_N, groups_N, seed=seed, folds=folds, split=split)


def _scores(
    f_ND: NDArray[Any], index_N: NDArray[np.int64], query_MD: NDArray[Any], *, settings: Sequence[float]
) -> Iterator[tuple[float, Floats]]:
    for c, weights_DK in fit_path(f_ND, index_N, settings):
        scores_MK = with_one(query_MD) @ weights_DK
        yield c, np.hstack([-scores_MK, scores_MK]) if scores_MK.shape[1] == 1 else scores_MK


def with_one(f_ND: NDArray[Any]) -> Floats:
    """Returns the features with a last one that is always 1, `[N, D + 1]`."""
    return np.hstack([f_ND, np.ones((len(f_ND), 1))]).astype(np.float64)


def fit_path(
    f_ND: NDArray[Any], index_N: NDArray[np.int64], cs: Sequence[float]
) -> Iterator[tuple[float, Floats]]:
    """Yields (C, weights `[D + 1, K]`) for each C in increasing order; the last row is the bias.

    Args:
        f_ND: Raw features.
        index_N: Class indices from 0 to K - 1, each with a row. Two classes give one column, positive for class 1.
        cs: Positive.

    Raises:
        UsageError: `HZ-U51`, the optimiser did not converge.
    """
    x_ND, classes = with_one(f_ND), int(index_N.max()) + 1
    basis_DR, moment_R = rotate(x_ND, np.full(len(x_ND), 1 / len(x_ND)))
    z_NR = x_ND @ basis_DR
    positive = np.arange(classes) if classes != 2 else np.array([1])
    sign_NK = np.where(index_N[:, None] == positive, 1.0, -1.0)
    solution = np.zeros((z_NR.shape[1], sign_NK.shape[1]))
    for c in sorted(cs):
        solution = _solve(z_NR, sign_NK, moment_R, c, solution)
        yield c, basis_DR @ solution


def _solve(z_NR: Floats, sign_NK: Floats, moment_R: Floats, c: float, start: Floats) -> Floats:
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    penalty = 1 / (2 * c * len(z_NR))  # after division by 2 C n the loss is half the mean squared hinge
    scale_R1 = 1 / np.sqrt(moment_R + penalty)[:, None]
    _, at_zero = _loss(z_NR, sign_NK, np.zeros_like(start), penalty)
    # In units of the first gradient, so that the weights of C = 1e-10, which are tiny, are found as exactly as those of C = 1.
    unit = float(np.abs(at_zero * scale_R1).max()) or 1.0

    def scaled(u: Floats) -> tuple[float, Floats]:
        loss, gradient = _loss(z_NR, sign_NK, u.reshape(start.shape) * scale_R1 * unit, penalty)
        return loss / unit**2, (gradient * scale_R1 / unit).ravel()

    found = minimize(
        scaled,
        (start / scale_R1 / unit).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={
            "gtol": _TOLERANCE,
            "ftol": 0.0,
            "maxiter": _MAX_STEPS,
            "maxfun": 2 * _MAX_STEPS,
            "maxcor": 20,
        },
    )
    left = float(np.abs(found.jac).max())
    if left > 10 * _TOLERANCE:
        raise UsageError(
            "HZ-U51",
            "the support vector machine did not converge",
            where=f"C = {c:g}, {len(z_NR)} tiles, {z_NR.shape[1]} features",
            expected=f"largest gradient entry <= {10 * _TOLERANCE:g} of the first",
            got=f"{left:.2g} after {found.nit} steps ({found.message})",
            next_step="leave out the largest C, or look for features of very different size",
        )
    solution: Floats = found.x.reshape(start.shape) * scale_R1 * unit
    return solution


def _loss(z_NR: Floats, sign_NK: Floats, weights_RK: Floats, penalty: float) -> tuple[float, Floats]:
    """Returns half the mean squared hinge less its value at zero weights, summed over classes, with the penalty, and its gradient.

    `(1 - m)^2 - 1 = m (m - 2)`: without the difference of nearly equal numbers, which would drown the tiny steps of small C.
    """
    margin_NK = (z_NR @ weights_RK) * sign_NK
    inside_NK = margin_NK < 1
    hinge = np.where(inside_NK, margin_NK * (margin_NK - 2), -1.0).sum() / (2 * len(z_NR))
    slack_NK = np.where(inside_NK, margin_NK - 1, 0.0) * sign_NK
    gradient_RK: Floats = z_NR.T @ slack_NK / len(z_NR) + penalty * weights_RK
    return float(hinge + penalty / 2 * np.square(weights_RK).sum()), gradient_RK
