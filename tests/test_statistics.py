from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from histozoo.errors import UsageError
from histozoo.evaluate import statistics
from histozoo.evaluate.ranks import average_rank, ranks, resampled_ranks


def clustered(seed: int, *, groups: int = 40, tiles: int = 25, spread: float = 2.0):
    """Two classes, right in half of all tiles on average, but each group has its own rate of right guesses."""
    rng = np.random.default_rng(seed)
    groups_N = np.repeat(np.arange(groups), tiles)
    labels_N = np.tile(np.arange(tiles) % 2, groups)
    rate_N = rng.beta(1 / spread, 1 / spread, size=groups)[groups_N]
    right_N = rng.random(len(groups_N)) < rate_N
    return labels_N, np.where(right_N, labels_N, 1 - labels_N), groups_N.astype(str)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 9))
    labels_N, guesses_N = rng.integers(classes, size=300), rng.integers(classes, size=300)
    labels_N[:classes] = np.arange(classes)
    found = statistics.confusion(labels_N, guesses_N, classes)
    np.testing.assert_array_equal(
        found, sklearn.metrics.confusion_matrix(labels_N, guesses_N, labels=range(classes))
    )
    assert statistics.accuracy(labels_N, guesses_N, classes) == pytest.approx(
        sklearn.metrics.accuracy_score(labels_N, guesses_N), abs=1e-15
    )
    assert statistics.balanced_accuracy(labels_N, guesses_N, classes) == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels_N, guesses_N), abs=1e-15
    )


def test_interval_equals_a_plain_loop_over_groups_with_scikit_learn():
    rng = np.random.default_rng(0)
    groups_N = rng.integers(30, size=400)
    labels_N = rng.integers(3, size=400)
    guesses_N = np.where(rng.random(400) < 0.5, labels_N, rng.integers(3, size=400))
    rows = [np.flatnonzero(groups_N == g) for g in range(30)]
    looped = []
    for _ in range(3000):
        drawn = np.concatenate([rows[g] for g in rng.integers(30, size=30)])
        looped.append(sklearn.metrics.balanced_accuracy_score(labels_N[drawn], guesses_N[drawn]))
    values_R = statistics.bootstrap(labels_N, guesses_N[None], groups_N, classes=3, seed=1)[:, 0]
    np.testing.assert_allclose(
        np.quantile(values_R, [0.025, 0.975]), np.quantile(looped, [0.025, 0.975]), atol=0.006
    )
    assert values_R.std() == pytest.approx(np.std(looped), rel=0.06)


def test_resampling_is_a_function_of_the_seed():
    case = clustered(0)
    first, same, other = (statistics.estimate(*case, classes=2, seed=s) for s in (0, 0, 1))
    assert first == same
    assert first.interval != other.interval
    assert first.value == other.value


def test_i62_absent_class_is_undefined_and_says_which():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sklearn.metrics.balanced_accuracy_score([0, 0], [0, 0]) == 1.0  # what must not come out
    with pytest.raises(UsageError, match="balanced_accuracy is undefined: a class has no tile") as caught:
        statistics.balanced_accuracy([0, 0], [0, 0], 3)
    assert caught.value.code == "HZ-I62"
    assert caught.value.where == "class index 1, 2"
    assert "at least one tile of each of 3 classes" in str(caught.value)


def test_i62_no_tile_at_all_is_undefined():
    with pytest.raises(UsageError, match="HZ-I62 accuracy is undefined"):
        statistics.accuracy(np.empty(0, int), np.empty(0, int), 2)


@pytest.mark.parametrize("labels", [[0, 2], [0, -1], [0.0, 1.0], [0, float("nan")], ["a", "b"]])
def test_i62_what_is_no_class_index_is_refused(labels):
    with pytest.raises(UsageError, match="HZ-I62 labels are no class indices"):
        statistics.balanced_accuracy(labels, [0, 1], 2)


def test_i62_undefined_resamples_are_left_out_and_counted():
    groups_N = np.repeat(np.arange(10), 4)
    labels_N = np.zeros(40, int)
    labels_N[:4] = 1  # the second class lies in one of ten groups: absent from 0.9^10 of the resamples
    found = statistics.estimate(labels_N, labels_N, groups_N, classes=2)
    assert found.undefined == pytest.approx(10_000 * 0.9**10, abs=250)
    assert (found.value, found.interval) == (1.0, (1.0, 1.0))


def test_i62_interval_that_most_resamples_leave_undefined_is_refused():
    labels_N = np.array([0, 1, 2, 3])
    with pytest.raises(UsageError, match="HZ-I62 the interval is undefined: most resamples lack a class"):
        statistics.estimate(labels_N, labels_N, list("abcd"), classes=4)


def test_i63_one_group_gives_no_interval():
    with pytest.raises(UsageError, match="HZ-I63 an interval needs at least two groups") as caught:
        statistics.estimate([0, 1, 1], [0, 1, 0], ["p", "p", "p"], classes=2)
    assert "1 groups, 3 tiles" in caught.value.got


def test_i63_interval_over_groups_covers_the_truth_and_one_over_tiles_does_not():
    """Random labels under clustering: the truth is 0.5; a 95 % interval must hold it about 95 times in 100."""
    trials, over_groups, over_tiles = 300, 0, 0
    for seed in range(trials):
        labels_N, guesses_N, groups_N = clustered(seed)
        for_groups = statistics.estimate(labels_N, guesses_N, groups_N, classes=2, resamples=400)
        for_tiles = statistics.estimate(
            labels_N, guesses_N, np.arange(len(labels_N)), classes=2, resamples=400
        )
        over_groups += for_groups.low <= 0.5 <= for_groups.high
        over_tiles += for_tiles.low <= 0.5 <= for_tiles.high
        assert (for_groups.n, for_groups.n_groups, for_tiles.n_groups) == (1000, 40, 1000)
    assert 0.90 <= over_groups / trials <= 0.98
    assert over_tiles / trials < 0.6


def test_i64_rows_that_do_not_match_are_refused():
    for call in (
        lambda: statistics.balanced_accuracy([0, 1], [0, 1, 1], 2),
        lambda: statistics.estimate([0, 1], [0, 1], ["a", "b", "c"], classes=2),
        lambda: statistics.difference([0, 1], [0, 1], [0, 1, 1], ["a", "b"], classes=2),
    ):
        with pytest.raises(UsageError, match=r"HZ-I64 labels and (guesses|groups) are not of the same rows"):
            call()


def test_difference_is_paired():
    rng = np.random.default_rng(0)
    labels_N, first_N, groups_N = clustered(3)
    second_N = np.where(rng.random(len(labels_N)) < 0.05, 1 - first_N, first_N)
    paired = statistics.difference(labels_N, first_N, second_N, groups_N, classes=2)
    alone = statistics.estimate(labels_N, first_N, groups_N, classes=2)
    one, two = (statistics.balanced_accuracy(labels_N, g, 2) for g in (first_N, second_N))
    assert paired.value == pytest.approx(one - two)
    assert paired.high - paired.low < 0.25 * (alone.high - alone.low)


def test_difference_of_a_model_with_itself_is_exactly_zero():
    labels_N, guesses_N, groups_N = clustered(4)
    found = statistics.difference(labels_N, guesses_N, guesses_N, groups_N, classes=2)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_difference_from_several_seeds_is_from_their_mean():
    rng = np.random.default_rng(0)
    labels_N, _, groups_N = clustered(5)
    random_SN = rng.integers(2, size=(3, len(labels_N)))
    found = statistics.difference(labels_N, labels_N, random_SN, groups_N, classes=2)
    mean = np.mean([statistics.balanced_accuracy(labels_N, g, 2) for g in random_SN])
    assert found.value == pytest.approx(1 - mean)
    assert found.low > 0
    assert statistics.estimate(labels_N, random_SN, groups_N, classes=2).value == pytest.approx(mean)


def test_differences_of_equal_models_exclude_zero_about_one_time_in_twenty():
    rng, excluded = np.random.default_rng(0), 0
    for _ in range(300):
        labels_N = np.tile([0, 1], 200)
        groups_N = np.repeat(np.arange(80), 5)
        first_N, second_N = rng.integers(2, size=(2, 400))
        found = statistics.difference(labels_N, first_N, second_N, groups_N, classes=2, resamples=400)
        excluded += not found.low <= 0 <= found.high
    assert excluded / 300 <= 0.10


def test_ten_thousand_resamples_take_well_under_a_second():
    rng = np.random.default_rng(0)
    labels_N, guesses_N = rng.integers(7, size=(2, 2000))
    groups_N = rng.integers(500, size=2000)
    start = time.process_time()
    statistics.estimate(labels_N, guesses_N, groups_N, classes=7)
    assert time.process_time() - start < 1.0


def test_ranks_equal_scipy():
    values_TM = np.random.default_rng(0).integers(4, size=(200, 5)).astype(float)
    np.testing.assert_array_equal(ranks(values_TM), scipy.stats.rankdata(-values_TM, axis=1))


def test_average_rank_of_a_model_that_always_wins_is_one():
    rng = np.random.default_rng(0)
    resampled = [np.column_stack([rng.random(500) + 2, rng.random(500), rng.random(500)]) for _ in range(6)]
    (best, low, high), *others = average_rank(np.stack([v[0] for v in resampled]), resampled)
    assert (best, low, high) == (1.0, 1.0, 1.0)
    for mean, low, high in others:
        assert 2.0 <= low < mean < high <= 3.0


def test_average_rank_interval_is_wide_where_tasks_disagree():
    resampled = [np.tile(v, (100, 1)) for v in ([1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0])]
    (mean, low, high), _ = average_rank([v[0] for v in resampled], resampled)
    assert (mean, low, high) == (1.5, 1.0, 2.0)


def test_tasks_of_one_lineage_are_drawn_together():
    resampled = [np.tile(v, (2000, 1)) for v in ([1.0, 0.0],) * 3 + ([0.0, 1.0],)]
    values = [v[0] for v in resampled]
    drawn_R = resampled_ranks(values, resampled, lineages=["x", "x", "x", "y"])[:, 0]
    # x twice, both, y twice: the mean over the tasks drawn, of which x has three.
    assert set(drawn_R.round(6)) == {1.0, 1.25, 2.0} and abs((drawn_R == 1).mean() - 0.25) < 0.04
    alone = average_rank(values, resampled)
    assert alone == average_rank(values, resampled, lineages=["p", "q", "r", "s"])
    (_, low, high), (_, low_alone, high_alone) = (
        average_rank(values, resampled, lineages=list("xxxy"))[0],
        alone[0],
    )
    assert high - low >= high_alone - low_alone and (low, high) == (1.0, 2.0)


def test_i62_average_rank_leaves_out_undefined_resamples_and_refuses_undefined_values():
    resampled = [np.array([[1.0, 0.0]] * 50 + [[np.nan, np.nan]] * 50)] * 2
    assert average_rank([[1.0, 0.0]] * 2, resampled)[0] == (1.0, 1.0, 1.0)
    with pytest.raises(UsageError, match="HZ-I62 an average rank needs every model's metric on every task"):
        average_rank([[1.0, np.nan]] * 2, resampled)
