from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from histozoo.errors import UsageError
from histozoo.evaluate import scored, statistics
from histozoo.evaluate.calibration import BINS, reliability

SKLEARN = {
    "accuracy": lambda y, p, k: sklearn.metrics.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda y, p, k: sklearn.metrics.balanced_accuracy_score(y, p.argmax(1)),
    "f1_macro": lambda y, p, k: sklearn.metrics.f1_score(
        y, p.argmax(1), average="macro", labels=range(k), zero_division=0
    ),
    "cohen_kappa_quadratic": lambda y, p, k: sklearn.metrics.cohen_kappa_score(
        y, p.argmax(1), weights="quadratic"
    ),
    "log_loss": lambda y, p, k: sklearn.metrics.log_loss(y, p, labels=range(k)),
    "brier_score_loss": lambda y, p, k: (
        sklearn.metrics.brier_score_loss(y, p, labels=range(k))
        if k > 2
        else sklearn.metrics.brier_score_loss(y, p[:, 1])
    ),
}


def case(seed: int, *, classes: int, tiles: int = 300):
    rng = np.random.default_rng(seed)
    labels_N = rng.permutation(np.arange(tiles) % classes)
    p_NK = rng.dirichlet(np.full(classes, 0.5), tiles) + 0.5 * np.eye(classes)[labels_N]
    return labels_N, p_NK / p_NK.sum(1, keepdims=True), np.arange(tiles) // 6


@pytest.mark.parametrize("metric", SKLEARN)
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_values_and_every_resample_equal_scikit_learn(metric, classes):
    labels_N, p_NK, groups_N = case(classes, classes=classes)
    values_M, found_RM = scored.bootstrap(labels_N, p_NK, groups_N, metric=metric, seed=5, resamples=25)
    assert values_M[0] == pytest.approx(SKLEARN[metric](labels_N, p_NK, classes), abs=1e-12)
    rng = np.random.default_rng(5)
    for found in found_RM[:, 0]:
        rows = np.concatenate([np.flatnonzero(groups_N == g) for g in rng.integers(50, size=50)])
        assert found == pytest.approx(SKLEARN[metric](labels_N[rows], p_NK[rows], classes), abs=1e-12)


def test_all_metrics_have_a_direction_and_perfect_probabilities_reach_its_end():
    labels_N, _, groups_N = case(0, classes=2)
    perfect_NK = np.eye(2)[labels_N]
    assert set(SKLEARN) | {
        "roc_auc",
        "average_precision",
        "roc_auc_ovr",
        "expected_calibration_error",
    } == set(scored.METRICS)
    for metric, higher_is_better in scored.METRICS.items():
        p = perfect_NK[:, 1] if metric in ("roc_auc", "average_precision") else perfect_NK
        found = scored.estimate(labels_N, p, groups_N, metric=metric, resamples=50)
        end = 1.0 if higher_is_better else 0.0
        assert (found.value, found.low, found.high) == pytest.approx((end, end, end), abs=1e-12)


def test_a_certain_mistake_costs_what_scikit_learn_says():
    p_NK = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = scored.estimate([0, 1], p_NK, ["a", "b"], metric="log_loss", resamples=200)
    assert found.value == pytest.approx(sklearn.metrics.log_loss([0, 1], p_NK), rel=1e-12)


def test_f1_is_zero_for_a_class_never_guessed_and_undefined_for_one_without_tiles():
    assert statistics.value([0, 0, 1, 2], [0, 0, 1, 1], 3, metric="f1_macro") == pytest.approx(
        (1 + 2 / 3 + 0) / 3
    )
    with pytest.raises(UsageError, match="HZ-I62 f1_macro is undefined"):
        statistics.value([0, 0, 1, 1], [0, 0, 1, 2], 3, metric="f1_macro")


def test_kappa_is_undefined_only_where_all_is_one_class():
    assert statistics.value([0, 1], [0, 1], 3, metric="cohen_kappa_quadratic") == 1.0
    with pytest.raises(UsageError, match="HZ-I62 cohen_kappa_quadratic is undefined"):
        statistics.value([1, 1], [1, 1], 3, metric="cohen_kappa_quadratic")


# -- reliability --


def test_calibration_error_by_hand():
    p_NK = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.45, 0.55]])
    found = reliability([0, 1, 1, 1], p_NK)
    # bins of 1/15: 0.9 (twice, one right), 0.7 (right), 0.55 (right)
    assert found.error == pytest.approx((2 * 0.4 + 0.3 + 0.45) / 4)
    assert found.largest_error == pytest.approx(0.45)
    filled = {
        i: (n, c, a)
        for i, (n, c, a) in enumerate(zip(found.tiles_E, found.confidence_E, found.accuracy_E, strict=True))
        if n
    }
    assert {i: v[0] for i, v in filled.items()} == {8: 1, 10: 1, 13: 2}
    assert filled[13] == pytest.approx((2, 0.9, 0.5))
    assert all(
        np.isnan(found.confidence_E[i]) and np.isnan(found.accuracy_E[i])
        for i in range(BINS)
        if i not in filled
    )


def test_calibration_error_equals_a_plain_loop_over_bins():
    labels_N, p_NK, groups_N = case(3, classes=4)
    confidence_N, right_N = p_NK.max(1), p_NK.argmax(1) == labels_N
    error = 0.0
    for b in range(BINS):
        inside = (confidence_N > b / BINS) & (confidence_N <= (b + 1) / BINS)
        if inside.any():
            error += inside.mean() * abs(confidence_N[inside].mean() - right_N[inside].mean())
    assert reliability(labels_N, p_NK).error == pytest.approx(error, abs=1e-14)
    found = scored.estimate(labels_N, p_NK, groups_N, metric="expected_calibration_error", resamples=100)
    assert found.value == pytest.approx(error, abs=1e-14)
    assert sum(reliability(labels_N, p_NK).tiles_E) == len(labels_N)


def test_the_ends_of_a_bin_belong_below():
    found = reliability([0, 0], np.array([[0.6, 0.4], [1.0, 0.0]]), bins=5)
    assert found.tiles_E == (0, 0, 1, 0, 1)
    assert found.edges == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1))


def test_true_probabilities_are_calibrated_and_sharpened_ones_are_not():
    rng = np.random.default_rng(0)
    p_NK = rng.dirichlet(np.ones(3), 60_000)
    labels_N = (rng.random((60_000, 1)) > p_NK.cumsum(1)).sum(1).clip(0, 2)
    assert reliability(labels_N, p_NK).error < 0.01
    sharp_NK = p_NK**3 / (p_NK**3).sum(1, keepdims=True)
    assert reliability(labels_N, sharp_NK).error > 0.1
    assert (
        reliability(labels_N, sharp_NK).confidence_E[-1]
        > reliability(labels_N, sharp_NK).accuracy_E[-1] + 0.05
    )


def test_losses_are_compared_in_pairs():
    labels_N, p_NK, groups_N = case(1, classes=3)
    flat_NK = np.full_like(p_NK, 1 / 3)
    found = scored.difference(labels_N, p_NK, flat_NK, groups_N, metric="log_loss", resamples=300)
    assert found.high < 0  # lower is better: the first is
    assert found.value == pytest.approx(sklearn.metrics.log_loss(labels_N, p_NK) - np.log(3))


# -- what is refused --


@pytest.mark.parametrize(
    ("p_NK", "message"),
    [
        ([[0.5, 0.4], [0.5, 0.5]], "rows are no probabilities"),
        ([[1.5, -0.5], [0.5, 0.5]], "rows are no probabilities"),
        ([[np.nan, 0.5], [0.5, 0.5]], "probabilities are not finite numbers"),
        ([[1.0], [1.0]], "rows are no probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(p_NK, message):
    for call in (
        lambda: reliability([0, 1], np.array(p_NK)),
        lambda: scored.estimate([0, 1], np.array(p_NK), ["a", "b"], metric="brier_score_loss"),
    ):
        with pytest.raises(UsageError, match=f"HZ-I65 {message}"):
            call()


def test_lengths_labels_and_nothing_at_all_are_refused():
    half = np.full((3, 2), 0.5)
    with pytest.raises(UsageError, match="HZ-I64 labels and probabilities are not of the same rows"):
        reliability([0, 1], half)
    with pytest.raises(UsageError, match="HZ-I62 labels are no class indices"):
        reliability([0, 1, 2], half)
    with pytest.raises(UsageError, match="HZ-I62 nothing can be measured of no tile"):
        reliability(np.empty(0, int), np.empty((0, 2)))
    with pytest.raises(UsageError, match="HZ-I63 an interval needs at least two groups"):
        scored.estimate([0, 1, 1], half, ["p", "p", "p"], metric="log_loss")


def test_probabilities_of_half_precision_are_taken():
    labels_N, p_NK, _ = case(2, classes=7)
    assert reliability(labels_N, p_NK.astype(np.float16)).error == pytest.approx(
        reliability(labels_N, p_NK).error, abs=0.01
    )
