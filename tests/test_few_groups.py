"""Few groups: how often nothing is called something, in simulation."""

from __future__ import annotations

import numpy as np
import pytest

from histozoo.evaluate.few_groups import p_widened, widened
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
