from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.evaluate.invariance import CHANGES, flip_x, invariance, invariances, rot90, stain
from histozoo.evaluate.robustness import nearest, robustness_index

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


# -- robustness index


def hospitals(*, biology: float, centre: float, each: int = 12, seed: int = 0):
    """Features of 3 classes from 4 centres, 2 slides per pair, made of a direction per class, one per centre, and noise."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(range(3), range(4), range(2 * each), indexing="ij")
    label_N, centre_N, tile_N = (v.ravel() for v in grid)
    slide_N = (label_N * 4 + centre_N) * 2 + tile_N // each
    directions = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    f_ND = biology * directions[label_N] + centre * directions[10 + centre_N]
    return f_ND + 0.05 * rng.standard_normal(f_ND.shape), label_N, centre_N, slide_N


def test_the_index_is_1_where_only_biology_decides_and_0_where_only_the_centre_does() -> None:
    biology = robustness_index(*hospitals(biology=1, centre=0), k=20, resamples=500)
    assert biology.index.value == 1 and biology.index.interval == (1, 1)
    assert biology.other_class_same_centre == 0 and biology.n_centres == 4
    centre = robustness_index(*hospitals(biology=0, centre=1), k=20, resamples=500)
    assert centre.index.value == 0 and centre.same_class_other_centre == 0
    both = robustness_index(*hospitals(biology=1, centre=1), k=30, resamples=500)
    assert 0.2 < both.index.low < both.index.value < both.index.high < 0.8


@pytest.mark.parametrize("balanced", [True, False])
def test_features_that_know_nothing_have_the_index_of_chance(balanced: bool) -> None:
    found = []
    for seed in range(8):
        columns = hospitals(biology=0, centre=0, each=20, seed=seed)
        _, label_N, centre_N, _ = columns
        kept = np.full(len(label_N), True) if balanced else (label_N == 0) | (centre_N == 0)
        found.append(robustness_index(*(c[kept] for c in columns), k=10, resamples=2))
    values = [f.index.value for f in found]
    assert abs(np.mean(values) - found[0].chance) < 4 * np.std(values) / np.sqrt(8)
    # Class 0 has 160 tiles, 40 in each centre; centre 0 has 40 of each class. Balanced: 3 other centres against 2 other classes.
    by_hand = (
        3 / 5 if balanced else (160 * 160 - 4 * 40 * 40) / (160 * 160 - 4 * 40 * 40 + 120 * 120 - 3 * 40 * 40)
    )
    assert found[0].chance == pytest.approx(by_hand)


def test_equals_a_count_neighbour_by_neighbour() -> None:
    f_ND, label_N, centre_N, slide_N = hospitals(biology=0.5, centre=0.6, each=4)
    so = os = 0
    for i, x_D in enumerate(f_ND):
        cosines = [
            (-(x_D @ y_D) / np.linalg.norm(x_D) / np.linalg.norm(y_D), j)
            for j, y_D in enumerate(f_ND)
            if slide_N[j] != slide_N[i]
        ]
        for _, j in sorted(cosines)[:7]:
            so += label_N[i] == label_N[j] and centre_N[i] != centre_N[j]
            os += label_N[i] != label_N[j] and centre_N[i] == centre_N[j]
    found = robustness_index(f_ND, label_N, centre_N, slide_N, k=7, resamples=2)
    assert (found.same_class_other_centre, found.other_class_same_centre) == (so, os) and so and os
    assert found.index.value == so / (so + os)


def test_neighbours_are_by_direction_alone_and_never_of_the_own_slide() -> None:
    f_ND, label_N, centre_N, slide_N = hospitals(biology=1, centre=1)
    near_Nk = nearest(f_ND, slide_N, k=9)
    assert not (slide_N[near_Nk] == slide_N[:, None]).any()
    scales_N1 = np.random.default_rng(0).uniform(0.1, 10, size=(len(f_ND), 1))
    np.testing.assert_array_equal(np.sort(near_Nk, 1), np.sort(nearest(f_ND * scales_N1, slide_N, k=9), 1))
    first, second = (
        robustness_index(f_ND, label_N.astype(str), centre_N, slide_N, k=20, seed=3, resamples=300)
        for _ in range(2)
    )
    assert first == second and first.index.n_groups == 24


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda f, y, c, s: (f, y, 0 * c, s), "HZ-I74", "several centres"),
        (lambda f, y, c, s: (f, 0 * y, c, s), "HZ-I74", "several classes"),
        (lambda f, y, c, s: (f, c, c, s), "HZ-I74", "only be 0"),
        (lambda f, y, c, s: (f[c == y], y[c == y], c[c == y], s[c == y]), "HZ-I74", "only be 0"),
        (lambda f, y, c, s: (f, y, 3 * c + y, s), "HZ-I74", "only be 1|only be 0"),
        (lambda f, y, c, s: (f, y, c, y), "HZ-I74", "a slide is in two centres"),
        (lambda f, y, c, s: (f, y, c, 0 * s), "HZ-I63", "two groups"),
        (lambda f, y, c, s: (f[::24], y[::24], c[::24], s[::24]), "HZ-I74", "too few tiles"),
        (lambda f, y, c, s: (f[1:], y, c, s), "HZ-I64", "rows"),
        (lambda f, y, c, s: (np.where(s[:, None] == 3, np.nan, f), y, c, s), "HZ-I62", "finite"),
        (lambda f, y, c, s: (np.where(s[:, None] == 3, 0, f), y, c, s), "HZ-I74", "no direction"),
    ],
)
def test_an_index_that_would_mean_nothing_is_refused(change, code, words) -> None:
    with pytest.raises(HistozooError, match=f"(?s){code}.*({words})"):
        robustness_index(*change(*hospitals(biology=1, centre=1)), k=12)


# -- invariance


def drawn(n: int = 4, px: int = 64) -> np.ndarray:
    """Coloured noise with edges at many scales."""
    coarse, fine = (
        np.random.default_rng(0).integers(45, 115, size=(n, k, k, 3), dtype=np.uint8) for k in (8, 32)
    )
    return sum(c.repeat(px // c.shape[1], 1).repeat(px // c.shape[1], 2) for c in (coarse, fine))


class Colour(nn.Module):
    """Mean colour of the four quarters: knows brightness and place, no texture."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.scale * nn.functional.adaptive_avg_pool2d(x_BCHW, 2).flatten(1)


def test_a_model_of_mean_colour_sees_no_flip_but_sees_stain() -> None:
    class Mean(Colour):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return self.scale * x_BCHW.mean((2, 3))

    tiles = drawn(24, 32)
    found = {
        i.change: i
        for i in invariances(Mean(), tiles, np.arange(24) // 2, mean=(0, 0, 0), std=(1, 1, 1), resamples=200)
    }
    assert set(found) == set(CHANGES)
    for name in ("flip_x", "flip_y", "rot90"):
        assert found[name].distance.high < 1e-5 and found[name].cosine.low > 1 - 1e-9
        assert found[name].retrieved.value == 1
    assert found["stain"].distance.low > 0.05 and found["jpeg_70"].distance.value > 1e-3
    corners = invariances(Colour(), tiles, np.arange(24) // 2, mean=(0, 0, 0), std=(1, 1, 1), resamples=200)
    assert corners[0].change == "flip_x" and corners[0].distance.low > 0.5


def test_distance_is_1_where_a_changed_tile_is_as_far_as_another_and_0_where_it_is_the_same() -> None:
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(50), 6)
    f_ND = 5 + rng.standard_normal((50, 30))[group_N] + rng.standard_normal((300, 30))
    other_ND = 5 + rng.standard_normal((50, 30))[group_N] + rng.standard_normal((300, 30))
    far, same = (invariance(f_ND, g_ND, group_N, change="c", resamples=500) for g_ND in (other_ND, f_ND))
    assert far.distance.low < 1 < far.distance.high and far.distance.high - far.distance.low < 0.2
    assert far.retrieved.value < 0.05 and far.cosine.value == pytest.approx(far.between, abs=0.01)
    assert far.cosine.value > 0.8  # a high cosine that means nothing: hence the others beside it
    assert (
        same.distance.interval == (0, 0)
        and same.retrieved.value == 1
        and same.cosine.value == pytest.approx(1)
    )


def test_the_yardstick_is_the_mean_over_pairs_of_different_groups() -> None:
    rng = np.random.default_rng(0)
    f_ND, g_ND, group_N = rng.standard_normal((20, 5)), rng.standard_normal((20, 5)), np.arange(20) // 3
    pairs = [(i, j) for i in range(20) for j in range(20) if group_N[i] != group_N[j]]
    apart = np.mean([np.square(f_ND[i] - f_ND[j]).sum() for i, j in pairs])
    unit_ND = f_ND / np.linalg.norm(f_ND, axis=1, keepdims=True)
    found = invariance(f_ND, g_ND, group_N, change="c", resamples=2)
    assert found.distance.value == pytest.approx(np.sqrt(np.square(f_ND - g_ND).sum(1).mean() / apart))
    assert found.between == pytest.approx(np.mean([unit_ND[i] @ unit_ND[j] for i, j in pairs]))


def test_changes_keep_shape_and_are_drawn_per_tile() -> None:
    tiles = drawn(3, 32)
    np.testing.assert_array_equal(flip_x(flip_x(tiles)), tiles)
    np.testing.assert_array_equal(rot90(rot90(rot90(rot90(tiles)))), tiles)
    for change in CHANGES.values():
        found = change(tiles, 0)
        assert found.shape == tiles.shape and found.dtype == np.uint8 and (found != tiles).any()
    same = np.repeat(tiles[:1], 3, axis=0)
    assert (stain(same, 0)[0] != stain(same, 0)[1]).any() and (stain(same, 0) != stain(same, 1)).any()
    np.testing.assert_array_equal(stain(tiles, 0)[:2], stain(tiles[:2], 0))


def test_features_without_distances_are_refused() -> None:
    f_ND, group_N = np.random.default_rng(0).standard_normal((12, 4)), np.arange(12) // 3
    bad_ND = np.where(np.arange(12)[:, None] == 4, np.nan, f_ND)
    for x_ND, y_ND, groups_N, code in (
        (np.ones((12, 4)), f_ND, group_N, "HZ-I74"),
        (np.where(f_ND == f_ND[2], 0, f_ND), f_ND, group_N, "HZ-I74"),
        (f_ND, f_ND[1:], group_N, "HZ-I64"),
        (f_ND, f_ND, 0 * group_N, "HZ-I63"),
    ):
        with pytest.raises(UsageError, match=code):
            invariance(x_ND, y_ND, groups_N, change="c")
    with pytest.raises(IntegrityError, match="HZ-I62"):
        invariance(f_ND, bad_ND, group_N, change="c")
    with pytest.raises(UsageError, match="HZ-I74"):
        invariances(Colour(), drawn()[:0], [], mean=MEAN, std=STD)
