from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.evaluate.cka import Similarity, cka, similarity
from histozoo.evaluate.cka_intervals import _jackknife, align, changes
from histozoo.evaluate.cka_picture import colour, picture, save_picture
from histozoo.evaluate.hsic import ROWS


def naive(x_ND, y_NE, *, unbiased):
    """CKA from n x n Gram matrices, term by term as the papers write it."""

    def hsic(k_NN, l_NN):
        n, one_N = len(k_NN), np.ones(len(k_NN))
        if not unbiased:
            h_NN = np.eye(n) - np.ones((n, n)) / n
            return np.trace(k_NN @ h_NN @ l_NN @ h_NN) / (n - 1) ** 2
        k_NN, l_NN = (m * (1 - np.eye(n)) for m in (k_NN, l_NN))
        first = np.trace(k_NN @ l_NN)
        second = (one_N @ k_NN @ one_N) * (one_N @ l_NN @ one_N) / ((n - 1) * (n - 2))
        third = 2 / (n - 2) * one_N @ k_NN @ l_NN @ one_N
        return (first + second - third) / (n * (n - 3))

    k_NN, l_NN = (f.astype(np.float64) @ f.astype(np.float64).T for f in (x_ND, y_NE))
    return hsic(k_NN, l_NN) / np.sqrt(hsic(k_NN, k_NN) * hsic(l_NN, l_NN))


def related(*, n, d, e, seed=0, share=0.7):
    """Skewed, shifted, correlated features of unequal scale, like those of a trunk behind a ReLU."""
    rng = np.random.default_rng(seed)
    x_ND = np.abs(rng.standard_normal((n, d)) @ (rng.standard_normal((d, d)) / np.arange(1, d + 1)))
    y_NE = share * x_ND @ rng.standard_normal((d, e)) + 3 * rng.standard_normal((n, e)) + 5
    return x_ND, y_NE


def rotation(d, *, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


# -- the number


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(("n", "d", "e"), [(5, 3, 2), (90, 7, 20), (40, 100, 60), (ROWS + 77, 6, 6)])
def test_equals_the_naive_formula_on_gram_matrices(n, d, e, unbiased):
    x_ND, y_NE = related(n=n, d=d, e=e)
    assert cka(x_ND, y_NE, unbiased=unbiased) == pytest.approx(
        naive(x_ND, y_NE, unbiased=unbiased), rel=1e-10, abs=1e-10
    )


@pytest.mark.parametrize("unbiased", [True, False])
def test_of_features_with_themselves_is_one(unbiased):
    x_ND, _ = related(n=300, d=40, e=1)
    assert cka(x_ND, x_ND, unbiased=unbiased) == pytest.approx(1, abs=1e-12)
    assert cka(x_ND.astype(np.float32), x_ND.astype(np.float32), unbiased=unbiased) == pytest.approx(
        1, abs=1e-6
    )


@pytest.mark.parametrize("unbiased", [True, False])
def test_does_not_change_by_rotation_common_scale_shift_or_order_of_tiles(unbiased):
    x_ND, y_NE = related(n=300, d=12, e=9)
    value = cka(x_ND, y_NE, unbiased=unbiased)
    order = np.random.default_rng(0).permutation(len(x_ND))
    for x2_ND, y2_NE in (
        (x_ND @ rotation(12), y_NE @ rotation(9)),
        (1e4 * x_ND, 1e-6 * y_NE),
        (x_ND + 100, y_NE - np.arange(9)),
        (x_ND[order], y_NE[order]),
        (y_NE, x_ND),
    ):
        assert cka(x2_ND, y2_NE, unbiased=unbiased) == pytest.approx(value, rel=1e-9)
    stretched_ND = x_ND * np.geomspace(1, 100, 12)
    assert abs(cka(stretched_ND, y_NE, unbiased=unbiased) - value) > 0.01  # only common scales are free


def test_unbiased_is_zero_on_average_where_nothing_is_shared_and_biased_is_not():
    rng = np.random.default_rng(0)
    values = {True: [], False: []}
    for _ in range(300):
        x_ND, y_NE = rng.standard_normal((60, 50)), rng.standard_normal((60, 50))
        for unbiased, found in values.items():
            found.append(cka(x_ND, y_NE, unbiased=unbiased))
    error = np.std(values[True]) / np.sqrt(300)
    assert abs(np.mean(values[True])) < 4 * error < 0.02
    assert np.mean(values[False]) > 0.4


def test_unbiased_does_not_depend_on_the_number_of_tiles_and_biased_does():
    rng = np.random.default_rng(0)
    x_ND = rng.standard_normal((6000, 64))
    y_NE = x_ND @ rotation(64) + 2 * rng.standard_normal((6000, 64))
    means = {
        unbiased: [
            np.mean([cka(x_ND[i : i + n], y_NE[i : i + n], unbiased=unbiased) for i in range(0, 6000, n)])
            for n in (100, 6000)
        ]
        for unbiased in (True, False)
    }
    assert abs(means[True][0] - means[True][1]) < 0.02
    assert means[False][0] - means[False][1] > 0.1


def test_float32_features_err_by_less_than_1e_5_even_far_from_the_origin():
    x_ND, y_NE = related(n=3000, d=96, e=64)
    for shift in (0, 300):
        for unbiased in (True, False):
            x32_ND, y32_NE = ((f + shift).astype(np.float32) for f in (x_ND, y_NE))
            exact = cka(x32_ND.astype(np.float64), y32_NE.astype(np.float64), unbiased=unbiased)
            assert cka(x32_ND, y32_NE, unbiased=unbiased) == pytest.approx(exact, abs=1e-5)
    halves = [cka(f.astype(np.float16), y_NE) for f in (x_ND, x_ND.astype(np.float16))]
    assert halves[0] == halves[1]


# -- streamed


def batches(blocks, size):
    n = len(next(iter(blocks.values())))
    for start in range(0, n, size):
        yield {name: f_ND[start : start + size] for name, f_ND in blocks.items()}


def test_blocks_against_blocks_hold_each_pair_whatever_the_batches():
    x_ND, y_NE = related(n=700, d=10, e=8)
    left, right = {"a": x_ND, "b": x_ND[:, :4], "c": y_NE}, {"p": y_NE, "q": x_ND**2}
    found = similarity(batches(left, 37), batches(right, 37))
    assert (found.left, found.right, found.n, found.unbiased) == (("a", "b", "c"), ("p", "q"), 700, True)
    expected = [[naive(x, y, unbiased=True) for y in right.values()] for x in left.values()]
    np.testing.assert_allclose(found.values_LM, expected, rtol=1e-9)
    assert found.values_LM[2, 0] == pytest.approx(1)
    whole = similarity(batches(left, 700), batches(right, 700))
    np.testing.assert_allclose(found.values_LM, whole.values_LM, rtol=1e-12)


def test_memory_does_not_grow_with_the_tiles():
    def peak(n):
        def made():
            rng = np.random.default_rng(0)
            for _ in range(n // 256):
                yield {"f": rng.standard_normal((256, 128)).astype(np.float32)}

        tracemalloc.start()
        similarity(made(), made())
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20 * 1024) < 1.05 * peak(2 * 1024)


# -- how sure


def clustered(groups, each, *, seed, d=6):
    rng = np.random.default_rng(seed)
    group_N = np.repeat(np.arange(groups), each)
    x_ND = rng.standard_normal((groups, d))[group_N] + rng.standard_normal((groups * each, d))
    return x_ND, x_ND + rng.standard_normal((groups, d))[group_N] + rng.standard_normal(x_ND.shape), group_N


def test_a_group_is_left_out_by_subtracting_its_sums():
    x_ND, y_ND, group_N = clustered(9, 20, seed=0)
    kept = np.r_[0:150, 155:180]  # groups of unequal size
    x_ND, y_ND, group_N = x_ND[kept], y_ND[kept], group_N[kept]
    found = align(x_ND, y_ND, group_N)
    assert found.value == pytest.approx(cka(x_ND, y_ND))
    expected = [cka(x_ND[group_N != g], y_ND[group_N != g]) for g in range(9)]
    np.testing.assert_allclose(found.without_G, expected, rtol=1e-9)
    assert list(found.sizes_G) == [20] * 7 + [15, 20]
    assert found.estimate.low < found.value < found.estimate.high and found.estimate.n_groups == 9


def test_intervals_over_groups_cover_the_truth_and_intervals_over_tiles_are_too_narrow():
    truth = np.mean([cka(*clustered(2000, 8, seed=s)[:2]) for s in (10_000, 10_001, 10_002)])
    found = [align(*clustered(40, 8, seed=seed)).estimate for seed in range(120)]
    assert sum(e.low <= truth <= e.high for e in found) >= 108
    x_ND, y_ND, _ = clustered(40, 8, seed=0)
    over_tiles = align(x_ND, y_ND, np.arange(len(x_ND))).estimate
    assert found[0].high - found[0].low > 1.5 * (over_tiles.high - over_tiles.low)


def test_the_jackknife_of_a_mean_is_the_t_interval_of_group_means_as_scipy_gives_it():
    groups = np.random.default_rng(0).gamma(2, size=(12, 30))
    without_G = np.array([np.delete(groups, g, axis=0).mean() for g in range(12)])
    found = _jackknife(groups.mean(), without_G, np.full(12, 30))
    means_G = groups.mean(1)
    expected = scipy.stats.t.interval(0.95, 11, loc=means_G.mean(), scale=scipy.stats.sem(means_G))
    assert found.interval == pytest.approx(expected)


def test_an_interval_near_1_ends_below_it_is_longer_to_the_other_side_and_covers_more_than_one_on_cka_itself():
    def near(groups, *, seed):
        x_ND, _, group_N = clustered(groups, 20, seed=seed)
        noise = np.random.default_rng(seed + 10**6)
        noise_ND = noise.standard_normal((groups, 6))[group_N] + noise.standard_normal(x_ND.shape)
        return x_ND, x_ND + 0.2 * noise_ND, group_N

    truth = np.mean([cka(*near(2000, seed=s)[:2]) for s in (10_000, 10_001)])
    several = [align(*near(6, seed=seed)) for seed in range(200)]
    raw = [_jackknife(a.value, a.without_G, a.sizes_G) for a in several]
    told = [a.estimate for a in several]
    assert any(e.high > 1 for e in raw) and all(e.high <= 1 for e in told)
    assert all(e.high - e.value < e.value - e.low for e in told)
    covered, before = (sum(e.low <= truth <= e.high for e in some) for some in (told, raw))
    assert covered >= 180 and covered > before


def test_features_beside_themselves_have_no_spread():
    x_ND, _, group_N = clustered(8, 10, seed=0)
    found = align(x_ND, 3 * x_ND, group_N).estimate
    assert found.low == pytest.approx(1, abs=1e-12) and found.value == pytest.approx(1) and found.high <= 1


def test_only_blocks_that_moved_more_than_two_seeds_differ_are_said_to_have_changed():
    x_ND, _, group_N = clustered(60, 10, seed=0, d=12)
    rng = np.random.default_rng(1)

    def seeds(signal_ND):
        return [signal_ND + 0.5 * rng.standard_normal(x_ND.shape) for _ in range(3)]

    still, moved = seeds(x_ND), seeds(x_ND[:, ::-1] ** 2)
    found = changes(
        {"early": still[0], "late": x_ND},
        {"early": still[1], "late": moved[1]},
        {"early": still[2], "late": moved[2]},
        group_N,
    )
    assert [(c.block, c.changed) for c in found] == [("early", False), ("late", True)]
    early, late = found
    assert early.difference.low < 0 < early.difference.high
    assert late.cka.high < late.ceiling.low
    assert late.difference.value == pytest.approx(late.cka.value - late.ceiling.value)


# -- refused


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda x, y: (x[:3], y[:3]), "HZ-I73", "at least 4"),
        (lambda x, y: (x[:0], y[:0]), "HZ-I73", "0 tiles"),
        (lambda x, y: (np.full_like(x, 1e6), y), "HZ-I73", "left"),
        (lambda x, y: (x, np.full(y.shape, 0.1, np.float32)), "HZ-I73", "right"),
        (lambda x, y: (np.zeros_like(x), y), "HZ-I73", "left"),
        (lambda x, y: (x, y[:-1]), "HZ-I64", "rows"),
        (lambda x, y: (np.where(np.arange(len(x))[:, None] == 1030, np.nan, x), y), "HZ-I62", "rows 1030"),
        (lambda x, y: (x, np.where(np.arange(len(y))[:, None] == 7, np.inf, y)), "HZ-I62", "right, rows 7"),
        (
            lambda x, y: (np.where(np.arange(len(x))[:, None] == 1030, 1e30, x).astype(np.float32), y),
            "HZ-I62",
            "left",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(change, code, words):
    with pytest.raises(HistozooError) as caught:
        cka(*change(*related(n=1100, d=5, e=4)))
    assert caught.value.code == code and words in str(caught.value)


def test_streams_of_other_tiles_or_blocks_are_refused():
    x_ND, _ = related(n=60, d=5, e=4)
    for left, right in (
        (batches({"a": x_ND}, 20), batches({"a": x_ND[:40]}, 20)),
        (batches({"a": x_ND}, 20), batches({"a": x_ND}, 30)),
        (({name: x_ND} for name in "ab"), batches({"a": np.r_[x_ND, x_ND]}, 60)),
    ):
        with pytest.raises(UsageError) as caught:
            similarity(left, right)
        assert caught.value.code == "HZ-I64"


def test_a_nan_in_a_stream_names_block_and_row():
    x_ND, _ = related(n=60, d=5, e=4)
    bad_ND = x_ND.copy()
    bad_ND[33] = np.nan
    with pytest.raises(IntegrityError, match=r"(?s)HZ-I62.*layer3, rows 33"):
        similarity(batches({"layer3": bad_ND}, 60), batches({"layer3": x_ND}, 60))


def test_an_interval_needs_groups_and_tiles_outside_the_largest():
    x_ND, y_ND, group_N = clustered(2, 3, seed=0)
    for groups_N, code in ((group_N, "HZ-I73"), (np.zeros(6), "HZ-I63"), (group_N[:-1], "HZ-I64")):
        with pytest.raises(UsageError) as caught:
            align(x_ND, y_ND, groups_N)
        assert caught.value.code == code


# -- picture


def test_the_picture_has_a_square_of_the_values_colour_for_each_pair(tmp_path):
    values_LM = np.array([[1.0, 0.5, -0.02], [0.25, 0.75, 0.0]])
    found = Similarity(left=("a", "b"), right=("p", "q", "r"), values_LM=values_LM, n=9, unbiased=True)
    image = picture(found, left="frozen", right="tuned", title="a title that is much wider than the matrix")
    pixels = np.asarray(image)
    rows = [int(np.flatnonzero((pixels == colour(v)).all(-1).any(1))[0]) for v in (1.0, 0.25)]
    columns = [int(np.flatnonzero((pixels[rows[0]] == colour(v)).all(-1))[0]) for v in (1.0, 0.5, -0.02)]
    assert rows[1] - rows[0] == 46 and list(np.diff(columns)) == [46, 46]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            assert tuple(pixels[row + 3, column + 3]) == colour(values_LM[i, j])
    save_picture(tmp_path / "cka.png", image)
    again = Image.open(io.BytesIO((tmp_path / "cka.png").read_bytes()))
    np.testing.assert_array_equal(np.asarray(again), pixels)
