from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import sklearn.metrics

from histozoo.errors import UsageError
from histozoo.evaluate import auroc, scored
from histozoo.evaluate.resampling import draws, resample

REFERENCE = {
    "roc_auc": sklearn.metrics.roc_auc_score,
    "average_precision": sklearn.metrics.average_precision_score,
}


def tied(seed: int, *, tiles: int = 120, groups: int = 25):
    """Labels, scores rounded so that many are tied across classes, and groups of uneven size without gaps in their numbers."""
    rng = np.random.default_rng(seed)
    _, group_N = np.unique(rng.integers(groups, size=tiles) ** 2 // groups, return_inverse=True)
    labels_N = rng.integers(2, size=tiles)
    return labels_N, np.round(rng.normal(size=tiles) + labels_N, seed % 3), group_N


def written_out(counts_G, group_N):
    """The rows of a resample, each as often as its group was drawn."""
    return np.repeat(np.arange(len(group_N)), counts_G[group_N].astype(int))


def blocks(groups: int, resamples: int, seed: int = 0):
    return next(draws(groups, seed=seed, resamples=resamples, at_once=resamples))


@pytest.mark.parametrize("metric", REFERENCE)
@pytest.mark.parametrize("path", ["pairs of groups", "along the tiles"])
@pytest.mark.parametrize("seed", range(6))
def test_every_resample_equals_scikit_learn_on_the_rows_written_out(seed, path, metric, monkeypatch):
    monkeypatch.setattr(auroc, "_PAIRS_PER_TILE", 10**6 if path == "pairs of groups" else 0)
    labels_N, scores_N, group_N = tied(seed)
    assert len(np.unique(scores_N)) < len(scores_N)
    counts_BG = blocks(group_N.max() + 1, 40, seed)
    found_B = auroc.ranking(labels_N, scores_N[None], group_N, metric=metric)(counts_BG)[:, 0]
    rows = [written_out(counts_G, group_N) for counts_G in counts_BG]
    expected_B = [REFERENCE[metric](labels_N[r], scores_N[r]) for r in rows]
    np.testing.assert_allclose(found_B, expected_B, rtol=0, atol=1e-14)


@pytest.mark.parametrize("path", ["pairs of groups", "along the tiles"])
@pytest.mark.parametrize("classes", [3, 5])
def test_every_resample_of_one_vs_rest_equals_scikit_learn(classes, path, monkeypatch):
    monkeypatch.setattr(auroc, "_PAIRS_PER_TILE", 10**6 if path == "pairs of groups" else 0)
    rng = np.random.default_rng(classes)
    labels_N = np.arange(200) % classes
    p_NK = np.round(rng.dirichlet(np.ones(classes), 200) + np.eye(classes)[labels_N], 1) + 0.1
    p_NK /= p_NK.sum(1, keepdims=True)
    group_N = np.arange(200) // 5
    counts_BG = blocks(40, 30)
    found_B = auroc.ranking(labels_N, p_NK[None], group_N, metric="roc_auc_ovr")(counts_BG)[:, 0]
    rows = [written_out(counts_G, group_N) for counts_G in counts_BG]
    expected_B = [
        sklearn.metrics.roc_auc_score(labels_N[r], p_NK[r], multi_class="ovr", average="macro") for r in rows
    ]
    np.testing.assert_allclose(found_B, expected_B, rtol=0, atol=1e-14)


def test_values_on_all_tiles_equal_scikit_learn():
    for seed in range(20):
        labels_N, scores_N, _ = tied(seed)
        for metric, reference in REFERENCE.items():
            found = getattr(auroc, metric)(labels_N, scores_N)
            assert found == pytest.approx(reference(labels_N, scores_N), abs=1e-14)


def test_the_area_is_the_share_of_pairs_in_order_counted_one_by_one():
    labels_N, scores_N, _ = tied(4)
    up, down = scores_N[labels_N == 1][:, None], scores_N[labels_N == 0]
    pairs = ((up > down) + 0.5 * (up == down)).mean()
    assert auroc.roc_auc(labels_N, scores_N) == pytest.approx(pairs, abs=1e-15)


def test_perfect_reversed_and_constant_scores():
    labels_N = np.arange(30) % 2
    assert auroc.roc_auc(labels_N, labels_N) == auroc.average_precision(labels_N, labels_N) == 1.0
    assert auroc.roc_auc(labels_N, -labels_N) == 0.0
    assert auroc.roc_auc(labels_N, np.zeros(30)) == auroc.average_precision(labels_N, np.zeros(30)) == 0.5
    assert auroc.roc_auc_ovr(np.arange(30) % 3, np.eye(3)[np.arange(30) % 3]) == 1.0


def test_only_the_order_of_scores_counts():
    labels_N, scores_N, groups_N = tied(0)
    one = scored.estimate(labels_N, scores_N, groups_N, metric="roc_auc", resamples=200)
    assert one == scored.estimate(labels_N, np.exp(scores_N), groups_N, metric="roc_auc", resamples=200)


# -- draws --


def test_draws_do_not_depend_on_how_many_are_made_at_once():
    together = next(draws(17, seed=3, resamples=100, at_once=100))
    for at_once in (1, 7, 64):
        parts = list(draws(17, seed=3, resamples=100, at_once=at_once))
        assert max(len(p) for p in parts) == at_once
        np.testing.assert_array_equal(np.concatenate(parts), together)


def test_draws_are_of_as_many_groups_as_there_are_each_as_likely():
    counts_RG = next(draws(20, seed=0, resamples=20_000, at_once=20_000))
    assert (counts_RG.sum(1) == 20).all()
    np.testing.assert_allclose(counts_RG.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(counts_RG.var(0), 1 - 1 / 20, atol=0.05)
    assert np.corrcoef(counts_RG[:, 0], counts_RG[:, 1])[0, 1] == pytest.approx(-1 / 19, abs=0.02)


def test_same_seed_same_numbers_other_seed_others():
    case = tied(1)
    first, same, other = (
        scored.estimate(*case, metric="average_precision", seed=s, resamples=300) for s in (0, 0, 1)
    )
    assert first == same
    assert first.value == other.value and first.interval != other.interval


def test_models_share_their_resamples_whether_asked_together_or_apart():
    labels_N, scores_N, groups_N = tied(2)
    other_N = -scores_N
    _, both_RM = scored.bootstrap(
        labels_N, np.stack([scores_N, other_N]), groups_N, metric="roc_auc", resamples=200
    )
    for m, s in enumerate((scores_N, other_N)):
        _, alone_RM = scored.bootstrap(labels_N, s, groups_N, metric="roc_auc", resamples=200)
        np.testing.assert_array_equal(alone_RM[:, 0], both_RM[:, m])
    np.testing.assert_allclose(both_RM.sum(1), 1, atol=1e-12)


def test_difference_is_paired_and_exactly_zero_with_itself():
    labels_N, scores_N, groups_N = tied(2)
    close_N = scores_N + 0.05 * np.random.default_rng(0).normal(size=len(scores_N))
    alone = scored.estimate(labels_N, scores_N, groups_N, metric="roc_auc", resamples=500)
    pair = scored.difference(labels_N, scores_N, close_N, groups_N, metric="roc_auc", resamples=500)
    assert pair.high - pair.low < 0.3 * (alone.high - alone.low)
    assert pair.value == pytest.approx(alone.value - auroc.roc_auc(labels_N, close_N))
    none = scored.difference(labels_N, scores_N, scores_N, groups_N, metric="roc_auc", resamples=500)
    assert (none.value, none.low, none.high) == (0, 0, 0)


def test_several_models_in_one_estimate_are_averaged():
    labels_N, scores_N, groups_N = tied(5)
    models_MN = np.stack([scores_N, np.random.default_rng(0).normal(size=len(scores_N))])
    found = scored.estimate(labels_N, models_MN, groups_N, metric="roc_auc", resamples=100)
    assert found.value == pytest.approx(np.mean([auroc.roc_auc(labels_N, s) for s in models_MN]))


# -- cost --


def test_ten_thousand_resamples_of_two_thousand_tiles_take_under_a_second():
    rng = np.random.default_rng(0)
    labels_N = rng.integers(2, size=2000)
    scores_N = rng.normal(size=2000) + labels_N
    start = time.process_time()
    scored.estimate(labels_N, scores_N, np.arange(2000), metric="roc_auc")
    assert time.process_time() - start < 1.0


def test_memory_does_not_grow_with_the_number_of_resamples():
    rng = np.random.default_rng(0)
    labels_N, scores_N = rng.integers(2, size=4000), rng.normal(size=4000)
    metric = auroc.ranking(labels_N, scores_N[None], np.arange(4000), metric="roc_auc")
    tracemalloc.start()
    resample(metric, 4000, width=4000, seed=0, resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6 < 1000 * 4000 * 8  # at once, the weights alone would be 32 MB


# -- what is refused --


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_with_their_row(bad):
    labels_N, scores_N, groups_N = tied(0)
    scores_N[7] = bad
    for call in (
        lambda: auroc.roc_auc(labels_N, scores_N),
        lambda: scored.estimate(labels_N, scores_N, groups_N, metric="roc_auc"),
        lambda: scored.difference(labels_N, -scores_N, scores_N, groups_N, metric="average_precision"),
    ):
        with pytest.raises(UsageError, match="HZ-I65 scores are not finite numbers") as caught:
            call()
        assert caught.value.where == "rows 7"


def test_scores_of_text_are_refused():
    with pytest.raises(UsageError, match="HZ-I65 scores are not finite numbers"):
        auroc.roc_auc([0, 1], ["a", "b"])


@pytest.mark.parametrize("metric", REFERENCE)
def test_a_single_class_is_undefined(metric):
    for label in (0, 1):
        with pytest.raises(UsageError, match=f"HZ-I62 {metric} is undefined: a class has no tile"):
            getattr(auroc, metric)([label] * 4, [1, 2, 3, 4])


def test_a_class_without_tiles_leaves_one_vs_rest_undefined():
    with pytest.raises(UsageError, match="HZ-I62 roc_auc_ovr is undefined") as caught:
        auroc.roc_auc_ovr([0, 1, 1], np.eye(3))
    assert "class index 0, 1" in caught.value.got


def test_a_third_class_is_refused_where_two_are_ranked():
    with pytest.raises(UsageError, match="HZ-I62 labels are no class indices"):
        auroc.roc_auc([0, 1, 2], [0.1, 0.2, 0.3])


def test_wrong_lengths_and_shapes_are_refused():
    labels_N, scores_N, groups_N = tied(0)
    with pytest.raises(UsageError, match="HZ-I64 labels and scores are not of the same rows"):
        auroc.roc_auc(labels_N, scores_N[1:])
    with pytest.raises(UsageError, match="HZ-I64 labels and groups are not of the same rows"):
        scored.estimate(labels_N, scores_N, groups_N[1:], metric="roc_auc")
    with pytest.raises(UsageError, match="HZ-I64 the models compared did not predict the same rows"):
        scored.difference(labels_N, scores_N, scores_N[1:], groups_N, metric="roc_auc")
    with pytest.raises(UsageError, match="HZ-I65 scores have not the shape that roc_auc_ovr needs"):
        auroc.roc_auc_ovr(labels_N, scores_N)
    with pytest.raises(UsageError, match="HZ-I65 there is no metric 'auroc'"):
        scored.estimate(labels_N, scores_N, groups_N, metric="auroc")


def test_undefined_resamples_are_counted_and_left_out():
    groups_N = np.repeat(np.arange(10), 4)
    labels_N = np.zeros(40, int)
    labels_N[:4] = 1  # one positive group of ten: in 0.9^10 of the resamples there is no positive tile
    for metric in REFERENCE:
        found = scored.estimate(labels_N, labels_N, groups_N, metric=metric)
        assert found.undefined == pytest.approx(10_000 * 0.9**10, abs=250)
        assert (found.value, found.interval) == (1.0, (1.0, 1.0))
