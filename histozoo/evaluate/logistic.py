"""L2 logistic regression for many penalties on one training set: scikit-learn's optimum, sooner (benchmarks/probe.py).

Objective, as scikit-learn's LogisticRegression: C * sum_i s_i CE_i + 1/2 ||W||^2, with an unpenalised bias and weights s_i = n / (K n_k)
(`class_weight="balanced"`). A fit that has not converged is an error, never a number.

Shapes: N tiles, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.logistic_fit import Floats, Problem

VERSION = 5
"""Raise it when classifiers of the same features come out otherwise: kept predictions of another are made again."""


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
        UsageError: `HZ-U50` a C that is not positive and finite; `HZ-U51` the optimiser did not converge.
    """
    if wrong := [c for c in cs if not 0 < c < np.inf]:
        raise UsageError(
            "HZ-U50", "not an inverse penalty", expected="positive numbers", got=f"C = {wrong[0]}"
        )
    mean_D, scale_D = f_ND.mean(0, dtype=np.float64), f_ND.std(0, dtype=np.float64)
    # A constant column's standard deviation is rounding; this bound on it is scikit-learn's (StandardScaler).
    scale_D[scale_D <= len(f_ND) * np.finfo(np.float64).eps * np.abs(mean_D)] = 1.0
    x_ND = (f_ND - mean_D) / scale_D
    classes_K, index_N = np.unique(labels_N, return_inverse=True)
    problem = Problem(x_ND, index_N, len(classes_K))
    for c in sorted(cs):
        yield c, Linear(mean_D, scale_D, *problem.weights(problem.solve(c)), classes_K.astype(np.int64))
