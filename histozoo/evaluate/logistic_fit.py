"""The optimum of L2 logistic regression for one penalty after another on one training set.

Objective, divided by C * n: the weighted mean of the cross entropies and penalty / 2 * ||W||^2 with penalty = 1 / (C n). Four things make
it quick, and none moves the optimum. The features are rotated into the eigenbasis of their second moment, which leaves the penalty as it
is. A fit starts from the best point on the plane through the two fits before it, which is near where classes can be told apart: there
weights grow along one direction as the penalty falls. Each coordinate is scaled by the square root of its curvature at that start. And
L-BFGS sees the features in float32, with residuals in which nothing cancels, until its steps drown in rounding; float64 says whether it
has arrived, and goes on where it has not.

Half the squared norm of the scaled gradient estimates how far the objective lies above its optimum. A fit has converged where that is at
most a share of what the weights have gained over chance: a strong penalty leaves all classes nearly equally likely, and the weights still
tell them apart. Where they leave less to gain it is a share of the objective, and of no less than 0.01: below it no guess hangs on more.
The share is 3e-8 for 10,000 rows and falls with the square of their number to 1e-12: few rows cost little, and on a small set every guess
counts. Curvatures across coordinates are left out of the estimate: random problems ended less than 1e-6 above their optimum up to
C = 1,000, and up to 2e-4 above it beyond C = 1e4. Gains that float64 does not see beside the objective, those of C below 1e-8 or so, are
left to chance.

Shapes: N tiles, D features, R rank of the training features, K classes, V vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError

Floats = NDArray[np.float64]

_GAP = 3e-8  # share of the gain over chance, for `_MANY` rows
_TOLD_APART = 0.01  # mean loss of classes that are told apart
_MANY = 10_000
_LEAST_GAP = 1e-12  # for few
_UNSEEN = 4e-15  # of the objective: below it float64 tells no height from another
_TINY = float(np.finfo(np.float64).tiny)
_MAX_STEPS = 2_000
_LOOKS = 10  # each at a curvature of its own
_NO_VARIANCE = 1e-10  # directions below this share of the largest eigenvalue are left at zero weight
_ROUNDING = 1e-9  # of the objective: steps that lower it by less are those of float32's last digits
_ON_THE_PLANE = 1e-3  # largest relative gradient entry at which the start is near enough
_FLAT = 1e-12  # least curvature of the bias
_ROWS = 1_024  # squared at a time


def rotate(x_ND: Floats, weight_N: Floats) -> tuple[Floats, Floats]:
    """Returns the eigenbasis of the weighted second moment `[D, R]` and its eigenvalues `[R]`.

    Directions in which the rows do not vary are left out. Fewer rows than columns are decomposed themselves, without a D x D matrix.
    """
    scaled_ND = x_ND * np.sqrt(weight_N)[:, None]
    if len(x_ND) < x_ND.shape[1]:
        _, singular_R, basis_RD = np.linalg.svd(scaled_ND, full_matrices=False)
        eigenvalues_D, vectors_DD = np.square(singular_R)[::-1], basis_RD[::-1].T
    else:
        eigenvalues_D, vectors_DD = np.linalg.eigh(scaled_ND.T @ scaled_ND)
    kept = eigenvalues_D > _NO_VARIANCE * eigenvalues_D[-1]
    return vectors_DD[:, kept], eigenvalues_D[kept]


class Problem:
    """One training set; solutions are `[K, R + 1]`, weights in the rotated basis and the bias.

    Args:
        x_ND: Standardised features.
        index_N: Class of each row, 0 to K - 1, each at least once.
        classes: K.
    """

    def __init__(self, x_ND: Floats, index_N: NDArray[np.int64], classes: int) -> None:
        self.tiles, self.classes, self.x_ND = len(x_ND), classes, x_ND
        self.weight_N = (self.tiles / classes / np.bincount(index_N, minlength=classes))[index_N] / self.tiles
        self.basis_DR = rotate(x_ND, self.weight_N)[0]
        self.z_NR = x_ND.astype(np.float32) @ self.basis_DR.astype(np.float32)
        self.own_N = index_N * self.tiles + np.arange(self.tiles)  # where each row's own class lies in [K, N]
        self.gap = max(_GAP * min(self.tiles / _MANY, 1) ** 2, _LEAST_GAP)
        self.chance = float(np.log(classes))  # the loss without weights, as balanced classes have it
        self.found: list[Floats] = []

    def weights(self, solution: Floats) -> tuple[Floats, Floats]:
        """Returns weights `[D, K]` of the standardised features, and the bias `[K]`."""
        return self.basis_DR @ solution[:, :-1].T, solution[:, -1]

    def solve(self, c: float) -> Floats:
        """Returns the solution for C, started from those found before.

        Raises:
            UsageError: `HZ-U51`, the optimiser did not converge.
        """
        # Two softmax columns share the one weight vector of the binary form: W = (w/2, -w/2) has half its squared norm.
        penalty = (2.0 if self.classes == 2 else 1.0) / (c * self.tiles)
        rough, exact = partial(self._in_float32, penalty), partial(self._in_float64, penalty)
        solution = self._start(penalty)
        solution, said = self._descend(rough, solution, self._scale(solution, penalty), least_gain=_ROUNDING)
        for _ in range(_LOOKS):
            scale_R1 = self._scale(solution, penalty)
            value, slope = exact(solution)
            if (gap := self._above(value, slope, scale_R1)) <= self.gap:
                break
            solution, said = self._descend(exact, solution, scale_R1, least_gain=0.0)
        else:
            raise UsageError(
                "HZ-U51",
                "the logistic regression did not converge",
                where=f"C = {c:g}, {self.tiles} tiles, {self.basis_DR.shape[1]} features",
                expected=f"an objective within {self.gap:g} of its optimum, as its gradient tells",
                got=f"{gap:.2g} ({said})",
                next_step="leave out the largest C, or look for features of very different size",
            )
        self.found = [*self.found[-1:], solution]
        return solution

    def _logits(self, solutions: Floats) -> NDArray[np.float32]:
        """Returns the float32 logits of solutions, `[..., K, R + 1] -> [..., K, N]`."""
        narrow = solutions.astype(np.float32)
        logits: NDArray[np.float32] = narrow[..., :-1] @ self.z_NR.T + narrow[..., -1:]
        return logits

    def _in_float32(self, penalty: float, solution: Floats) -> tuple[float, Floats]:
        residual_KN = self._logits(solution)
        loss = self._residuals(residual_KN)
        return _penalised(loss, residual_KN @ self.z_NR, residual_KN.sum(1), solution, penalty)

    def _in_float64(self, penalty: float, solution: Floats) -> tuple[float, Floats]:
        residual_KN = (solution[:, :-1] @ self.basis_DR.T) @ self.x_ND.T + solution[:, -1:]
        loss = self._residuals(residual_KN)
        return _penalised(
            loss, (residual_KN @ self.x_ND) @ self.basis_DR, residual_KN.sum(1), solution, penalty
        )

    def _residuals(self, logits_KN: NDArray[Any]) -> float:
        """Replaces logits by weighted residuals, probability less truth, and returns the mean loss.

        Relative to the logit of a row's own class neither the loss nor its residual is a difference of numbers near 1.
        """
        flat = logits_KN.reshape(-1)
        logits_KN -= flat[self.own_N]
        top_N = logits_KN.max(0)
        logits_KN -= top_N
        np.exp(logits_KN, out=logits_KN)
        own_N = flat[self.own_N]
        flat[self.own_N] = 0
        others_N = logits_KN.sum(0)
        loss_N = np.where(top_N > 0, top_N + np.log(own_N + others_N), np.log1p(others_N))
        logits_KN *= (self.weight_N / (own_N + others_N)).astype(logits_KN.dtype)
        flat[self.own_N] = -logits_KN.sum(0)
        return float(self.weight_N @ loss_N)

    def _start(self, penalty: float) -> Floats:
        """Returns the best point on the plane through 0 and the last two solutions."""
        if not self.found:
            return np.zeros((self.classes, self.basis_DR.shape[1] + 1))
        # The second vector is how the solution moved.
        vectors = np.stack([self.found[-1], self.found[-1] - self.found[0]][: len(self.found)])
        logits_VKN = self._logits(vectors)
        weights = vectors[:, :, :-1].reshape(len(vectors), -1)
        products_VV = weights @ weights.T

        def loss(share_V: Floats) -> tuple[float, Floats]:
            residual_KN = np.tensordot(share_V.astype(np.float32), logits_VKN, 1)
            mean = self._residuals(residual_KN)
            pull_V = penalty * products_VV @ share_V
            slope_V = np.tensordot(logits_VKN, residual_KN, 2).astype(np.float64) + pull_V
            return mean + float(share_V @ pull_V) / 2, slope_V

        here_V = np.eye(len(vectors))[0]
        share_V = _minimise(loss, here_V, unit=loss(here_V)[0], gtol=_ON_THE_PLANE).x
        best: Floats = np.tensordot(share_V, vectors, 1)
        return best

    def _scale(self, solution: Floats, penalty: float) -> Floats:
        """Returns one over the square root of each coordinate's curvature at `solution`, the mean over classes, `[R + 1]`."""
        residual_KN = self._logits(solution)
        self._residuals(residual_KN)
        # w p (1 - p) of each class; the own class's residual is w (p - 1), of the same product.
        spread_N = (np.abs(residual_KN).sum(0) - np.square(residual_KN).sum(0) / self.weight_N) / self.classes
        spread_N = np.maximum(spread_N, 0)
        curvature_R = np.zeros(self.z_NR.shape[1])
        for first in range(0, self.tiles, _ROWS):
            rows = slice(first, first + _ROWS)
            curvature_R += spread_N[rows].astype(np.float32) @ np.square(self.z_NR[rows])
        # The bias is not penalised; where every row is called its own class it has no curvature left, and no gradient.
        bias = max(float(spread_N.sum()), _FLAT)
        scale: Floats = 1 / np.sqrt(np.append(curvature_R + penalty, [bias]))
        return scale

    def _descend(
        self,
        loss: Callable[[Floats], tuple[float, Floats]],
        start: Floats,
        scale: Floats,
        *,
        least_gain: float,
    ) -> tuple[Floats, str]:
        """Returns where L-BFGS ended, and why."""
        first, slope = loss(start)
        gap = self._above(first, slope, scale)
        if gap <= self.gap:
            return start, "at the start"

        # `_minimise` divides the loss by its first value: in these coordinates its curvature is 1 all the same.
        step = scale * np.sqrt(max(first, _TINY))

        def scaled(u: Floats) -> tuple[float, Floats]:
            nonlocal gap
            value, slope = loss(u.reshape(start.shape) * step)
            gap = self._above(value, slope, scale)
            return value, (slope * step).ravel()

        def arrived(_: Any) -> None:
            # After a step, whose end is what was looked at last.
            if gap <= self.gap:
                raise StopIteration

        found = _minimise(scaled, (start / step).ravel(), unit=first, callback=arrived, ftol=least_gain)
        return found.x.reshape(start.shape) * step, str(found.message)

    def _above(self, value: float, slope: Floats, scale: Floats) -> float:
        """Returns how far a point lies above the optimum, as a share of its gain over chance or of its objective."""
        whole = max(min(max(value, _TOLD_APART), self.chance - value), _UNSEEN / self.gap * value, _TINY)
        return float(np.square(slope * scale).sum()) / 2 / whole


def _penalised(
    loss: float, slope_KR: NDArray[Any], slope_K: NDArray[Any], solution: Floats, penalty: float
) -> tuple[float, Floats]:
    slope = np.column_stack([slope_KR, slope_K]).astype(np.float64)
    slope[:, :-1] += penalty * solution[:, :-1]
    return loss + penalty / 2 * float(np.square(solution[:, :-1]).sum()), slope


def _minimise(
    loss: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    *,
    unit: float,
    ftol: float = 0.0,
    gtol: float = 0.0,
    callback: Callable[[Any], None] | None = None,
) -> Any:
    """Returns SciPy's result; tolerances are those of the loss in units of `unit`, as it may be far below 1."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    unit = max(unit, _TINY)

    def relative(v: Floats) -> tuple[float, Floats]:
        value, slope = loss(v)
        return value / unit, slope / unit

    limits = {"maxiter": _MAX_STEPS, "maxfun": 2 * _MAX_STEPS, "ftol": ftol, "gtol": gtol}
    return minimize(relative, start, jac=True, method="L-BFGS-B", callback=callback, options=limits)
