"""Every slide judged once by a model of other patients: perfect features, chance, seeds, sides and refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.slides import scores
from histozoo.evaluate.slides.attention import POOLINGS
from histozoo.evaluate.slides.bags import Bags, from_tiles
from histozoo.evaluate.slides.crossval import (
    FoldResult,
    check_folds,
    cross_fold,
    sides,
    slide_folds,
    tile_folds,
)
from histozoo.evaluate.slides.model import Settings
from tests.fakes.bags import CLASSES, toy

QUICK = Settings(epochs=6, lr=1e-2)


def probabilities(bags: Bags, *, settings: Settings = QUICK, folds: int = 2, seed: int = 0) -> np.ndarray:
    fold_S = slide_folds(bags, folds=folds, seed=0)
    found = np.full((len(bags), len(bags.classes)), np.nan)
    for fold in range(folds):
        result = cross_fold(bags, fold_S, fold, settings=settings, seed=seed)
        found[result.slides_S] = result.probabilities_SK
    return found


@pytest.mark.parametrize("pooling", POOLINGS)
def test_perfect_features_score_one(pooling: str) -> None:
    bags = toy()
    found = probabilities(bags, settings=dataclasses.replace(QUICK, pooling=pooling))
    np.testing.assert_allclose(found.sum(1), 1)
    for metric, e in scores.estimates(bags.labels_S, bags.patients, found[None], resamples=200).items():
        assert (e.value, e.low, e.high, e.n, e.n_groups) == (1, 1, 1, 12, 12), metric


def test_the_same_seed_gives_the_same_bits_whatever_the_order_of_the_rows() -> None:
    bags = toy(slides=8)
    order = np.random.default_rng(1).permutation(len(bags.f_ND))
    again = from_tiles(
        bags.f_ND[order], bags.labels_S[bags.slide_N][order], np.asarray(bags.slides)[bags.slide_N[order]],
        task="toy", classes=CLASSES, names=[bags.names[i] for i in order],
    )  # fmt: skip
    fold_S = slide_folds(bags, folds=2, seed=0)
    first, second, other = (
        cross_fold(b, fold_S, 0, settings=dataclasses.replace(QUICK, epochs=2), seed=seed).to_json()
        for b, seed in ((bags, 0), (again, 0), (bags, 1))
    )
    assert first == second
    assert first["probabilities_SK"] != other["probabilities_SK"]
    assert FoldResult.from_json(first).to_json() == first


def test_the_held_out_slides_change_nothing_in_the_fit() -> None:
    bags = toy(slides=8)
    fold_S = slide_folds(bags, folds=2, seed=0)
    f_ND = bags.f_ND.copy()
    f_ND[fold_S[bags.slide_N] == 0] += 100
    quick = dataclasses.replace(QUICK, epochs=2)
    first, second = (
        cross_fold(b, fold_S, 0, settings=quick, seed=0) for b in (bags, bags.with_features(f_ND))
    )
    assert first.epochs == second.epochs
    assert not np.array_equal(first.probabilities_SK, second.probabilities_SK)


def test_patients_are_whole_and_every_class_is_on_both_sides_of_the_choice() -> None:
    for seed in range(20):
        bags = toy(slides=24, seed=seed)
        patients = tuple(f"p{i // 4}-{i % 2}" for i in range(24))  # two slides each, of one class
        bags = dataclasses.replace(bags, patients=patients)
        fold_S = slide_folds(bags, folds=3, seed=seed)
        for fold in range(3):
            found = sides(bags, fold_S, fold, validation=4, seed=seed)
            assert sorted(np.concatenate(found).tolist()) == list(range(24))
            names = [{patients[s] for s in side} for side in found]
            assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
            assert all(set(bags.labels_S[side]) == {0, 1} for side in found)


def test_metrics_are_those_of_scikit_learn_per_slide() -> None:
    random = np.random.default_rng(0)
    labels_S = random.integers(0, 3, 40)
    raw = random.random((2, 40, 3)).round(1) + 0.6 * np.eye(3)[labels_S]
    p_MSK = raw / raw.sum(2, keepdims=True)
    patients = [f"p{i % 13}" for i in range(40)]
    found = scores.estimates(labels_S, patients, p_MSK, resamples=500)
    auc = [roc_auc_score(labels_S, p, multi_class="ovr") for p in p_MSK]
    right = [balanced_accuracy_score(labels_S, p.argmax(1)) for p in p_MSK]
    assert found["roc_auc_ovr"].value == pytest.approx(np.mean(auc), abs=1e-12)
    assert found["balanced_accuracy"].value == pytest.approx(np.mean(right), abs=1e-12)
    assert all(e.low < e.value < e.high and e.n_groups == 13 for e in found.values())
    paired = scores.estimates(labels_S, patients, p_MSK[:1], minus_MSK=p_MSK[1:], resamples=500)
    assert paired["roc_auc_ovr"].value == pytest.approx(auc[0] - auc[1], abs=1e-12)
    assert paired["balanced_accuracy"].value == pytest.approx(right[0] - right[1], abs=1e-12)
    itself = scores.estimates(labels_S, patients, p_MSK, minus_MSK=p_MSK, resamples=50)
    assert all(np.allclose((e.value, e.low, e.high), 0, atol=1e-12) for e in itself.values())


# -- refusals


def test_too_few_slides_or_patients_are_refused() -> None:
    with pytest.raises(UsageError, match=r"HZ-I63 one slide cannot be both"):
        slide_folds(toy(slides=1), folds=2, seed=0)
    with pytest.raises(
        UsageError,
        match=r"HZ-I72 a class has fewer patients than there are folds(.|\n)*benign: 4; malignant: 3\n(.|\n)*next: +add patients",
    ):
        slide_folds(toy(slides=7), folds=5, seed=0)
    one_class = dataclasses.replace(toy(), labels_S=np.zeros(12, dtype=np.int64))
    with pytest.raises(UsageError, match=r"HZ-I62 a single class(.|\n)*next: +add groups"):
        slide_folds(one_class, folds=2, seed=0)
    with pytest.raises(UsageError, match="HZ-I72 a class has too few patients"):
        sides(toy(slides=4), np.asarray([0, 0, 1, 1]), 0, validation=4, seed=0)


def test_folds_of_the_callers_own_are_checked() -> None:
    bags = toy(slides=6)
    assert check_folds(bags, [0, 0, 1, 1, 2, 2]).tolist() == [0, 0, 1, 1, 2, 2]
    by_tile = np.asarray([0, 1, 0, 1, 0, 1])[bags.slide_N]
    assert tile_folds(bags, by_tile).tolist() == [0, 1, 0, 1, 0, 1]
    by_tile[0] = 1
    with pytest.raises(UsageError, match=r"HZ-E37 a slide is in two folds(.|\n)*s00: folds 0, 1"):
        tile_folds(bags, by_tile)
    twice = dataclasses.replace(bags, patients=("p", "p", "q", "r", "s", "t"))
    with pytest.raises(UsageError, match=r"HZ-E37 a patient is in two folds(.|\n)*p: folds 0, 1"):
        check_folds(twice, [0, 1, 0, 1, 0, 1])
    for bad in ([0] * 6, [0, 0, 0, 2, 2, 2], [-1, 0, 1, 0, 1, 0]):
        with pytest.raises(UsageError, match="HZ-I72 these are no folds"):
            check_folds(bags, bad)
    with pytest.raises(UsageError, match="HZ-I64"):
        check_folds(bags, [0, 1])


def test_features_that_are_not_finite_are_refused_by_row() -> None:
    bags = toy()
    f_ND = bags.f_ND.copy()
    f_ND[3, 1] = np.inf
    with pytest.raises(IntegrityError, match=r"HZ-I62(.|\n)*rows 3"):
        cross_fold(
            dataclasses.replace(bags, f_ND=f_ND),
            slide_folds(bags, folds=2, seed=0),
            0,
            settings=QUICK,
            seed=0,
        )
