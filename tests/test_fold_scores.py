"""Scores by fold: the mean of what scikit-learn says of each, and how often its interval holds the truth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from histozoo.errors import UsageError
from histozoo.evaluate import FEATURE_PROTOCOLS
from histozoo.evaluate.fold_scores import fold_estimate


def patients(rng, *, groups: int, shift: float = 1.0, width: int = 20):
    """Five tiles of each patient, whose label is drawn by lot; the first feature tells it."""
    groups_N = np.repeat(np.arange(groups), 5)
    labels_G = rng.permutation(np.arange(groups) % 2)
    f_GD = rng.normal(size=(groups, width))
    f_GD[:, 0] += shift * labels_G
    return labels_G[groups_N], f_GD[groups_N] + 0.5 * rng.normal(size=(len(groups_N), width)), groups_N


def ridge_over_folds(f_ND, labels_N, groups_N, rng, *, shift: float = 1.0):
    """Predictions of a ridge classifier over five folds of patients, and the true AUROC of the five, averaged."""
    labels_G, fold_G = labels_N[::5], np.empty(groups_N.max() + 1, dtype=int)
    for label in (0, 1):  # both classes in every fold
        fold_G[labels_G == label] = rng.permutation((labels_G == label).sum()) % 5
    fold_N = fold_G[groups_N]
    scores_N, truths = np.empty(len(labels_N)), []
    for fold in range(5):
        train = fold_N != fold
        x_ND = f_ND[train] - f_ND[train].mean(0)
        weights_D = np.linalg.solve(
            x_ND.T @ x_ND + len(x_ND) * np.eye(x_ND.shape[1]), x_ND.T @ (2.0 * labels_N[train] - 1)
        )
        scores_N[~train] = f_ND[~train] @ weights_D
        truths.append(scipy.stats.norm.cdf(shift * weights_D[0] / np.linalg.norm(weights_D) / np.sqrt(2.5)))
    scores_NK = np.stack([-scores_N, scores_N], 1)
    rows = np.arange(len(labels_N))
    return SimpleNamespace(rows_N=rows, fold_N=fold_N, scores_NK=scores_NK), np.mean(truths)


def test_value_is_the_mean_of_scikit_learns_over_folds():
    rng = np.random.default_rng(0)
    labels_N, f_ND, groups_N = patients(rng, groups=40)
    for name in ("logistic", "linear_svm"):
        found = FEATURE_PROTOCOLS[name](f_ND.astype(np.float32), labels_N, groups_N, seed=0)
        expected = [
            roc_auc_score(labels_N[found.fold_N == k], found.scores_NK[found.fold_N == k, 1])
            for k in range(5)
        ]
        estimate = fold_estimate(labels_N, groups_N, found, metric="roc_auc")
        assert estimate.value == pytest.approx(np.mean(expected), abs=1e-12)
        reach = scipy.stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * np.var(expected, ddof=1))
        assert estimate.high - estimate.low == pytest.approx(2 * reach, rel=1e-3)
        assert (estimate.n, estimate.n_groups) == (200, 40)


def coverage(repeats: int, *, groups: int) -> float:
    covered = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        labels_N, f_ND, groups_N = patients(rng, groups=groups)
        found, truth = ridge_over_folds(f_ND, labels_N, groups_N, rng)
        estimate = fold_estimate(labels_N, groups_N, found, metric="roc_auc")
        covered += estimate.low <= truth <= estimate.high
    return covered / repeats


@pytest.mark.parametrize("groups", [40, 80])
def test_interval_holds_the_truth_at_least_as_often_as_it_says(groups):
    """Pooled over folds, the interval over groups holds it in about 85 of 100 of these (benchmarks/auroc.txt)."""
    assert coverage(200, groups=groups) >= 0.93


def test_i63_a_split_has_no_interval_over_folds():
    labels_N = np.arange(8) % 2
    found = SimpleNamespace(rows_N=np.arange(8), fold_N=np.zeros(8, int), scores_NK=np.eye(2)[labels_N])
    with pytest.raises(UsageError, match="HZ-I63 an interval over folds needs at least two"):
        fold_estimate(labels_N, np.arange(8), found, metric="roc_auc")
    with pytest.raises(UsageError, match="HZ-I65 there is no metric"):
        fold_estimate(labels_N, np.arange(8), found, metric="auc")


def test_i62_a_fold_without_a_class_is_refused():
    labels_N = np.repeat([0, 1], 8)
    found = SimpleNamespace(rows_N=np.arange(16), fold_N=labels_N, scores_NK=np.eye(2)[labels_N])
    with pytest.raises(UsageError, match="HZ-I62"):
        fold_estimate(labels_N, np.arange(16), found, metric="roc_auc")
