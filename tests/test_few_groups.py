"""Few groups: how often nothing is called something, in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t  # type: ignore[import-untyped]

from histozoo.errors import UsageError
from histozoo.evaluate.few_groups import detectable, p_widened, widened
from histozoo.evaluate.multiple import p_value
from histozoo.evaluate.resampling import percentiles

REPEATS = 1000


def resampled(random: np.random.Generator, groups: int) -> tuple[float, np.ndarray]:
    """The mean of groups whose true mean is 0, and on resamples."""
    values_G = random.normal(size=groups)
    counts_RG = random.multinomial(groups, np.full(groups, 1 / groups), size=400)
    return float(values_G.mean()), counts_RG @ values_G / groups


@pytest.mark.parametrize("groups", [6, 8, 12, 30])
def test_no_difference_is_called_one_in_five_of_a_hundred(groups: int) -> None:
    random, called, by_bootstrap, covered = np.random.default_rng(groups), 0, 0, 0
    for _ in range(REPEATS):
        value, d_R = resampled(random, groups)
        called += p_widened(value, d_R, groups) < 0.05
        by_bootstrap += p_value(d_R) < 0.05
        low, high = percentiles(widened(value, d_R, groups))
        covered += low < 0 < high
    assert called / REPEATS <= 0.06
    assert covered / REPEATS >= 0.93
    if groups <= 8:
        assert by_bootstrap / REPEATS > 0.08, "the bootstrap alone is too sure"


def test_one_group_tells_nothing() -> None:
    assert p_widened(1.0, np.ones(10), 1) == 1.0
    assert np.isinf(widened(1.0, np.ones(10), 1)).all()


@pytest.mark.parametrize(("groups", "comparisons"), [(200, 1), (12, 1), (12, 20), (30, 84)])
def test_a_true_difference_of_the_detectable_size_is_called_four_times_in_five(
    groups: int, comparisons: int
) -> None:
    random, sizes, called = np.random.default_rng(groups), [], 0
    for _ in range(REPEATS):
        value, d_R = resampled(random, groups)
        sizes.append(detectable(d_R, groups, comparisons=comparisons))
    true = float(np.mean(sizes))
    for _ in range(REPEATS):
        value, d_R = resampled(random, groups)
        error = d_R.std() * np.sqrt(groups / (groups - 1))
        called += 2 * t.sf(abs(value + true) / error, groups - 1) * comparisons < 0.05
    assert called / REPEATS == pytest.approx(0.8, abs=0.06)


def test_seeds_that_lie_apart_need_a_larger_difference_than_their_spread_alone_says() -> None:
    _, d_R = resampled(np.random.default_rng(0), 54)
    seeds = [[0.4, -0.5, 0.1, 0.9, -0.9]]
    alone, apart = (detectable(d_R, 54, seeds=s, comparisons=84) for s in ([], seeds))
    error = np.sqrt(d_R.var() * 54 / 53 + np.var(seeds[0], ddof=1) / 5)
    assert apart > 1.2 * error * (alone / d_R.std()), "few seeds have few degrees of freedom, and a far tail"
    assert detectable(d_R, 54) < detectable(d_R, 54, comparisons=5)
    assert detectable(d_R, 1) == np.inf
    with pytest.raises(UsageError, match="HZ-I62 a spread needs differences"):
        detectable(np.array([np.nan, 1.0]), 54)
