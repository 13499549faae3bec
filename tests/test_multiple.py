from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from histozoo.errors import UsageError
from histozoo.evaluate import scored
from histozoo.evaluate.few_groups import FEWEST, NOT_CALLED
from histozoo.evaluate.multiple import holm, p_value
from histozoo.evaluate.ranks import average_rank
from histozoo.evaluate.resampling import percentiles
from histozoo.evaluate.seeds import over_seeds
from histozoo.evaluate.verdicts import NO_WINNER, compare, over_tasks, winner

MODELS = ("a", "b", "c")
MANY = 10**9  # groups: Student's t is the normal law


def normal(means, *, spread: float = 0.05, resamples: int = 4000, seed: int = 0):
    """Values of models and resamples that scatter around them, each model by itself."""
    rng = np.random.default_rng(seed)
    return np.asarray(means, float), rng.normal(means, spread, size=(resamples, len(means)))


# -- p-values --


def test_p_value_by_hand():
    assert p_value([1.0, 2.0, 3.0, -1.0]) == pytest.approx(2 * 2 / 5)
    assert p_value(np.ones(99)) == pytest.approx(2 / 100)
    assert p_value([1.0, np.nan, 1.0, np.nan]) == pytest.approx(2 / 3)
    assert p_value([0.0, 0.0]) == p_value([1e-17, -1e-17]) == 1.0


@pytest.mark.parametrize("mean", np.linspace(-3, 3, 13))
def test_p_value_is_below_five_percent_where_the_interval_excludes_zero(mean):
    d_R = np.random.default_rng(0).normal(mean, 1, size=20_000)
    low, high = percentiles(d_R)
    assert (p_value(d_R) < 0.05) == (not low <= 0 <= high)
    assert p_value(d_R) == pytest.approx(2 * scipy.stats.norm.sf(abs(mean)), abs=0.015)
    assert p_value(d_R) == p_value(-d_R)


def test_p_values_of_equal_models_are_below_five_percent_about_one_time_in_twenty():
    rng, below = np.random.default_rng(0), 0
    for _ in range(300):
        labels_N, groups_N = np.tile([0, 1], 200), np.repeat(np.arange(80), 5)
        _, values_RM = scored.bootstrap(
            labels_N, rng.normal(size=(2, 400)), groups_N, metric="roc_auc", resamples=300
        )
        below += p_value(values_RM[:, 0] - values_RM[:, 1]) < 0.05
    assert 0.02 <= below / 300 <= 0.09


# -- Holm --


def closed(p_C):
    """Holm as what it is: a comparison is rejected where every set of comparisons that holds it is, by Bonferroni."""
    sets = [s for k in range(1, len(p_C) + 1) for s in itertools.combinations(range(len(p_C)), k)]
    return [max(min(1.0, len(s) * min(p_C[i] for i in s)) for s in sets if c in s) for c in range(len(p_C))]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([0.5, 0.9, 0.9]) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("seed", range(20))
def test_holm_equals_the_closed_test_of_every_set(seed):
    p_C = np.round(np.random.default_rng(seed).beta(0.5, 2, size=1 + seed % 6), 2)
    np.testing.assert_allclose(holm(p_C), closed(p_C), atol=1e-15)


def test_holm_keeps_the_chance_of_one_false_winner_at_five_percent():
    p_RC = np.random.default_rng(0).random((4000, 10))
    assert np.mean([(p_C < 0.05).any() for p_C in p_RC]) > 0.35
    assert np.mean([(holm(p_C) < 0.05).any() for p_C in p_RC]) == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("bad", [[0.1, np.nan], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(UsageError, match="HZ-I65 there are p-values outside"):
        holm(bad)


# -- verdicts --


def test_one_task_with_a_winner_and_one_without():
    clear, resampled = normal([0.9, 0.6, 0.5])
    close, resampled_too = normal([0.9, 0.89, 0.5], seed=1)
    found = compare(["clear", "close"], MODELS, [clear, close], [resampled, resampled_too], groups=[MANY] * 2)
    assert [(v.task, v.first, v.second) for v in found[:3]] == [
        ("clear", *pair) for pair in itertools.combinations(MODELS, 2)
    ]
    assert [v.outcome for v in found] == ["a", "a", NO_WINNER, NO_WINNER, "a", "b"]
    assert winner(found[:3], MODELS) == "a"
    assert winner(found[3:], MODELS) == NO_WINNER
    for v in found:
        assert v.low < v.difference < v.high and v.p <= v.p_holm
        assert (v.outcome == NO_WINNER) == (v.p_holm >= 0.05)
    np.testing.assert_allclose([v.p_holm for v in found], holm([v.p for v in found]))


def test_what_would_win_alone_does_not_win_among_many():
    values_M, resampled = normal([0.62, 0.5], spread=0.04)
    [alone] = compare(["t"], ("a", "b"), [values_M], [resampled], groups=[MANY])
    assert alone.outcome == "a" and 0.01 < alone.p < 0.05
    tasks = [f"t{i}" for i in range(10)]
    many = compare(tasks, ("a", "b"), [values_M] * 10, [resampled] * 10, groups=[MANY] * 10)
    assert {v.outcome for v in many} == {NO_WINNER}
    assert many[0].low > 0  # the interval itself is not corrected
    assert many[0].detectable > alone.detectable


def test_losses_are_won_by_the_lower():
    values_M, resampled = normal([0.2, 0.9])
    [found] = compare(["t"], ("a", "b"), [values_M], [resampled], higher_is_better=False, groups=[MANY])
    assert found.outcome == "a" and found.difference < 0
    assert over_tasks(("a", "b"), [values_M] * 6, [resampled] * 6, higher_is_better=False).outcome == "a"


def test_a_model_named_is_the_only_one_compared_with():
    values_M, resampled = normal([0.9, 0.6, 0.5])
    found = compare(["t"], MODELS, [values_M], [resampled], against="b", groups=[MANY])
    assert [(v.first, v.second) for v in found] == [("a", "b"), ("b", "c")]
    with pytest.raises(UsageError, match="HZ-I65 there is no model 'd'"):
        compare(["t"], MODELS, [values_M], [resampled], against="d", groups=[MANY])


def test_equal_models_have_no_winner_anywhere():
    resampled = np.tile(np.random.default_rng(0).random((500, 1)), (1, 2))
    [found] = compare(["t"], ("a", "b"), [[0.5, 0.5]], [resampled], groups=[MANY])
    assert (found.outcome, found.p, found.difference, found.low, found.high) == (NO_WINNER, 1.0, 0, 0, 0)
    podium = over_tasks(("a", "b"), [[0.5, 0.5]] * 3, [resampled] * 3)
    assert podium.outcome == NO_WINNER
    assert {s.rank for s in podium.standings} == {1.5}


def test_better_on_every_task_wins_over_tasks_and_better_on_half_does_not():
    wins, loses = normal([0.9, 0.5, 0.4]), normal([0.4, 0.5, 0.9], seed=1)
    clear = over_tasks(MODELS, [wins[0]] * 8, [wins[1]] * 8)
    assert clear.outcome == "a"
    assert (clear.standings[0].model, clear.standings[0].rank) == ("a", 1.0)
    mixed = over_tasks(MODELS, [wins[0], loses[0]] * 4, [wins[1], loses[1]] * 4)
    assert mixed.outcome == NO_WINNER
    assert {v.outcome for v in mixed.verdicts} == {NO_WINNER}


def test_standings_are_the_average_ranks():
    tasks = [normal([0.7, 0.6, 0.5], seed=s) for s in range(5)]
    values_TM, resampled = [v for v, _ in tasks], [r for _, r in tasks]
    found = {
        s.model: (s.rank, s.low, s.high) for s in over_tasks(MODELS, values_TM, resampled, seed=3).standings
    }
    assert found == dict(zip(MODELS, average_rank(values_TM, resampled, seed=3), strict=True))


def test_tasks_of_one_lineage_are_no_further_evidence():
    wins, loses = normal([0.9, 0.5]), normal([0.5, 0.9], seed=1)
    tasks = [wins] * 6 + [loses] * 2
    values_TM, resampled = [v for v, _ in tasks], [r for _, r in tasks]
    [apart] = over_tasks(("a", "b"), values_TM, resampled).verdicts
    [shared] = over_tasks(("a", "b"), values_TM, resampled, lineages=["one"] * 6 + ["two", "three"]).verdicts
    assert apart.difference == shared.difference
    assert shared.high - shared.low > 1.5 * (apart.high - apart.low) and shared.p > apart.p


def test_what_cannot_be_compared_is_refused():
    values_M, resampled = normal([0.9, 0.6])
    with pytest.raises(UsageError, match="HZ-I65 a comparison needs two models or more"):
        compare(["t"], ("a", "a"), [values_M], [resampled], groups=[MANY])
    with pytest.raises(UsageError, match="HZ-I65 a comparison needs two models or more"):
        compare(["t"], ("a",), [values_M[:1]], [resampled[:, :1]], groups=[MANY])
    with pytest.raises(UsageError, match="HZ-I64 values and resamples are not of the same tasks and models"):
        compare(["t", "u"], ("a", "b"), [values_M], [resampled], groups=[MANY] * 2)
    with pytest.raises(UsageError, match="HZ-I64 values and resamples are not of the same tasks and models"):
        compare(["t"], ("a", "b"), [values_M], [resampled], groups=[MANY] * 2)
    with pytest.raises(UsageError, match="HZ-I62 a comparison needs every model's metric") as caught:
        compare(["t", "u"], ("a", "b"), [values_M, [np.nan, 1]], [resampled] * 2, groups=[MANY] * 2)
    assert caught.value.where == "u"
    with pytest.raises(UsageError, match="HZ-I65 too few resamples") as caught:
        compare(list("tuvw"), ("a", "b"), [values_M] * 4, [resampled[:100]] * 4, groups=[MANY] * 4)
    assert "more than 159" in caught.value.expected


def test_undefined_resamples_are_left_out_and_counted():
    values_M, resampled = normal([0.9, 0.6])
    resampled[:400, 0] = np.nan
    [found] = compare(["t"], ("a", "b"), [values_M], [resampled], groups=[MANY])
    assert found.undefined == 400 and found.outcome == "a"


def test_few_groups_and_seen_lineages_are_told_and_not_called_nor_counted():
    clear, resampled = normal([0.9, 0.6])
    two = {"tasks": ["t", "u"], "models": ("a", "b"), "values_TM": [clear] * 2, "resampled": [resampled] * 2}
    [alone] = compare(["t"], ("a", "b"), [clear], [resampled], groups=[FEWEST])
    for found in (
        compare(**two, groups=[FEWEST, FEWEST - 1]),
        compare(**two, groups=[FEWEST] * 2, seen=[("u", "b")]),
    ):
        assert [v.outcome for v in found] == ["a", NOT_CALLED]
        assert found[0].p_holm == found[0].p and found[1].p_holm is None
        assert found[0] == alone
    few, many = (compare(["t"], ("a", "b"), [clear], [resampled], groups=[n])[0] for n in (FEWEST, MANY))
    assert few.low < many.low < many.high < few.high and few.p > many.p
    assert few.detectable > many.detectable


# -- seeds --


def simulated(rng, *, seeds: int, groups: int, seed_sd: float, group_sd: float):
    """Means over groups that each seed's model meets with its own luck; the method's true value is 0."""
    values_GS = rng.normal(0, group_sd, size=(groups, 1)) + rng.normal(0, seed_sd, size=seeds)
    counts_RG = rng.multinomial(groups, np.full(groups, 1 / groups), size=300)
    return over_seeds(values_GS.mean(0), counts_RG @ values_GS / groups, groups=groups)


@pytest.mark.parametrize(("seed_sd", "group_sd"), [(1.0, 0.5), (0.1, 3.0), (0.5, 3.0)])
def test_the_total_interval_covers_the_method_and_the_one_over_groups_only_these_models(seed_sd, group_sd):
    rng = np.random.default_rng(0)
    found = [simulated(rng, seeds=5, groups=40, seed_sd=seed_sd, group_sd=group_sd) for _ in range(700)]
    total = np.mean([f.total_low <= 0 <= f.total_high for f in found])
    over_groups = np.mean([f.low <= 0 <= f.high for f in found])
    assert 0.93 <= total <= 0.98
    assert over_groups < (0.4 if seed_sd == 1.0 else 0.96)
    assert np.mean([f.seed_sd**2 for f in found]) == pytest.approx(seed_sd**2, rel=0.1)
    assert np.mean([f.test_se**2 for f in found]) == pytest.approx(group_sd**2 / 40, rel=0.1)


def test_seed_summary_by_hand():
    resampled = np.tile([[0.5, 0.7]], (100, 1)) + np.linspace(-0.1, 0.1, 100)[:, None]
    found = over_seeds([0.5, 0.7], resampled, groups=10**9)
    assert found.value == pytest.approx(0.6) and found.by_seed == (0.5, 0.7)
    assert found.seed_sd == pytest.approx(0.2 / np.sqrt(2))
    assert (found.low, found.high) == pytest.approx((0.505, 0.695))
    assert found.total_low < found.low and found.total_high > found.high


def test_seeds_that_agree_add_nothing():
    rng = np.random.default_rng(0)
    resampled = np.tile(rng.normal(0.75, 0.02, size=(20_000, 1)), (1, 3))
    found = over_seeds([0.75] * 3, resampled, groups=10**6)
    assert found.seed_sd == 0
    assert (found.total_low, found.total_high) == pytest.approx((found.low, found.high), abs=0.001)
    still = over_seeds([0.75] * 3, np.full((10, 3), 0.75), groups=5)
    assert (still.total_low, still.total_high) == (0.75, 0.75)


def test_the_total_interval_ends_where_the_metric_does():
    rng = np.random.default_rng(0)
    resampled = np.clip(rng.normal(0.9, 0.05, size=(2_000, 2)), 0, 1)
    free = over_seeds([0.85, 0.95], resampled, groups=6)
    assert free.total_high > 1 > free.value > free.total_low > 0
    kept = over_seeds([0.85, 0.95], resampled, groups=6, bounds=(0.0, 1.0))
    assert (kept.total_low, kept.total_high) == (free.total_low, 1.0)
    low = over_seeds([0.05, 0.15], 1 - resampled, groups=6, bounds=(0.0, 1.0))
    assert low.total_low == 0.0 < low.total_high < 1.0


def test_one_seed_has_no_spread():
    with pytest.raises(UsageError, match="HZ-I65 the spread over seeds needs two seeds or more"):
        over_seeds([0.5], np.full((10, 1), 0.5), groups=5)
    with pytest.raises(UsageError, match="HZ-I64 values and resamples are not of the same seeds"):
        over_seeds([0.5, 0.6], np.full((10, 3), 0.5), groups=5)
    with pytest.raises(UsageError, match="HZ-I63 an interval needs at least two groups"):
        over_seeds([0.5, 0.6], np.full((10, 2), 0.5), groups=1)
    with pytest.raises(UsageError, match="HZ-I62 a seed's metric is undefined"):
        over_seeds([0.5, np.nan], np.full((10, 2), 0.5), groups=5)
