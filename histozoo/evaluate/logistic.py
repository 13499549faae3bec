"""L2 logistic regression for many penalties on one training set: scikit-learn's optimum, faster where classes overlap (benchmarks).

Objective, as scikit-learn's LogisticRegression: C * sum_i s_i CE_i + 1/2 ||W||^2, with an unpenalised bias
and weights s_i = n / (K n_k) (`class_weight="balanced"`). The features are rotated into the eigenbasis of
their second moment (a rotation leaves the penalty as it is) and each coordinate is scaled by the square root
of a bound on its curvature; in these coordinates the problem is so well conditioned that L-BFGS ends in tens
of steps and may start from the previous penalty's solution. A fit that has not converged is an error, never a
number.

Shapes: N tiles, D features, R rank of the training features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError

Floats = NDArray[np.float64]

_TOLERANCE = 1e-5  # of the largest preconditioned gradient entry of the mean loss
_SHARE = (
    1e-3  # and of the mean loss itself, which is far below 1 where classes can be told apart and C is large
)
_SMALLEST = 1e-8  # a gradient below it lowers the loss by less than its last digit
_MAX_STEPS = 2_000
_NO_VARIANCE = 1e-10  # directions below this share of the largest eigenvalue are left at zero weight


@dataclass(frozen=True)
class Linear:
    """A linear classifier of raw features: standardisation is folded into it.

    Args:
        mean_D, scale_D: What the features are centred and divided by.
        weights_DK, bias_K: Of the standardised features.
        classes_K: The class index of each column.
    """

    mean_D: Floats
    scale_D: Floats
    weights_DK: Floats
    bias_K: Floats
    classes_K: NDArray[np.int64]

    def predict(self, f_ND: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the most likely class index of each row."""
        guesses_N: NDArray[np.int64] = self.classes_K[self.logits(f_ND).argmax(1)]
        return guesses_N

    def logits(self, f_ND: NDArray[Any]) -> Floats:
        """Returns the score of each class, `[N, K]`."""
        logits_NK: Floats = (f_ND - self.mean_D) / self.scale_D @ self.weights_DK + self.bias_K
        return logits_NK

    def probabilities(self, f_ND: NDArray[Any]) -> Floats:
        """Returns the probability of each class, `[N, K]`, under the prior it was fitted with: equal for all classes."""
        logits_NK = self.logits(f_ND)
        odds_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
        p_NK: Floats = odds_NK / odds_NK.sum(1, keepdims=True)
        return p_NK


def fit_path(
    f_ND: NDArray[Any], labels_N: NDArray[np.int64], cs: Sequence[float]
) -> Iterator[tuple[float, Linear]]:
    """Yields (C, classifier) for each C in increasing order, each started from the one before.

    Args:
        f_ND: Raw features; each column is centred and divided by its standard deviation here.
        labels_N: Class indices; classes without a row are never predicted.
        cs: Inverse penalty strengths, positive.

    Raises:
        UsageError: `HZ-U51`, the optimiser did not converge.
    """
    mean_D, scale_D = f_ND.mean(0, dtype=np.float64), f_ND.std(0, dtype=np.float64)
    scale_D[scale_D == 0] = 1.0
    x_ND = (f_ND - mean_D) / scale_D
    classes_K, index_N = np.unique(labels_N, return_inverse=True)
    problem = _Problem(x_ND, index_N, len(classes_K))
    solution = np.zeros((problem.rank + 1, len(classes_K)))
    for c in sorted(cs):
        solution = problem.solve(c, solution)
        weights_DK = problem.basis_DR @ solution[:-1]
        yield c, Linear(mean_D, scale_D, weights_DK, solution[-1], classes_K.astype(np.int64))


def rotate(x_ND: Floats, weight_N: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns the eigenbasis of the weighted second moment `[D, R]`, its eigenvalues `[R]` and the rows in it `[N, R]`.

    Directions in which the rows do not vary are left out. Fewer rows than columns are decomposed themselves, without a D x D matrix.
    """
    if len(x_ND) < x_ND.shape[1]:
        _, singular_R, basis_RD = np.linalg.svd(x_ND * np.sqrt(weight_N)[:, None], full_matrices=False)
        eigenvalues_D, vectors_DD = np.square(singular_R)[::-1], basis_RD[::-1].T
    else:
        eigenvalues_D, vectors_DD = np.linalg.eigh((x_ND * weight_N[:, None]).T @ x_ND)
    kept = eigenvalues_D > _NO_VARIANCE * eigenvalues_D[-1]
    basis_DR = vectors_DD[:, kept]
    return basis_DR, eigenvalues_D[kept], np.ascontiguousarray(x_ND @ basis_DR)


class _Problem:
    """One training set, rotated."""

    def __init__(self, x_ND: Floats, index_N: NDArray[np.int64], classes: int) -> None:
        tiles = len(x_ND)
        weight_N = (tiles / classes / np.bincount(index_N, minlength=classes))[index_N] / tiles
        self.basis_DR, moment_R, self.z_NR = rotate(x_ND, weight_N)
        self.curvature_R, self.rank = moment_R / classes, len(moment_R)
        self.index_N, self.weight_N, self.classes, self.tiles = index_N, weight_N, classes, tiles

    def solve(self, c: float, start: Floats) -> Floats:
        """Returns weights and bias `[R + 1, K]` at the optimum for C, in the rotated basis."""
        from scipy.optimize import minimize  # type: ignore[import-untyped]

        # Divided by C * n the loss is a weighted mean. Two softmax columns share the one weight vector of the binary
        # form: W = (w/2, -w/2) has half its squared norm.
        penalty = (2.0 if self.classes == 2 else 1.0) / (c * self.tiles)
        scale_R1 = np.append(1 / np.sqrt(self.curvature_R + penalty), 1.0)[:, None]
        tolerance, u = _TOLERANCE, (start / scale_R1).ravel()
        while True:
            found = minimize(
                lambda u: self._loss(u.reshape(start.shape) * scale_R1, penalty, scale_R1),
                u,
                jac=True,
                method="L-BFGS-B",
                options={
                    "gtol": tolerance,
                    "ftol": 0.0,
                    "maxiter": _MAX_STEPS,
                    "maxfun": 2 * _MAX_STEPS,
                    "maxcor": 20,
                },
            )
            tolerance, u = max(_SHARE * found.fun, _SMALLEST), found.x
            if not found.success or np.abs(found.jac).max() <= tolerance:
                break
        if np.abs(found.jac).max() > _TOLERANCE:
            raise UsageError(
                "HZ-U51",
                "the logistic regression did not converge",
                where=f"C = {c:g}, {self.tiles} tiles, {self.rank} features",
                expected=f"largest gradient entry <= {_TOLERANCE:g}",
                got=f"{np.abs(found.jac).max():.2g} after {found.nit} steps ({found.message})",
                next_step="leave out the largest C, or look for features of very different size",
            )
        solution: Floats = found.x.reshape(start.shape) * scale_R1
        return solution

    def _loss(self, solution: Floats, penalty: float, scale_R1: Floats) -> tuple[float, Floats]:
        logits_NK = self.z_NR @ solution[:-1]
        logits_NK += solution[-1]
        rows = np.arange(self.tiles)
        logits_NK -= logits_NK.max(1, keepdims=True)
        picked_N = logits_NK[rows, self.index_N]
        np.exp(logits_NK, out=logits_NK)
        total_N = logits_NK.sum(1)
        loss = self.weight_N @ (np.log(total_N) - picked_N) + penalty / 2 * np.square(solution[:-1]).sum()
        logits_NK /= total_N[:, None]
        logits_NK[rows, self.index_N] -= 1
        logits_NK *= self.weight_N[:, None]
        gradient = np.empty_like(solution)
        np.matmul(self.z_NR.T, logits_NK, out=gradient[:-1])
        gradient[:-1] += penalty * solution[:-1]
        gradient[-1] = logits_NK.sum(0)
        return float(loss), (gradient * scale_R1).ravel()
