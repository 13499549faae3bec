from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import logistic, logistic_fit
from histozoo.evaluate.probe import (
    features,
    features_of_images,
    grouped_folds,
    probe,
    probe_split,
)
from histozoo.evaluate.statistics import balanced_accuracy, estimate

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def blobs(*, n: int, d: int, classes: int, seed: int = 0, distance: float = 1.0):
    """Correlated, skewed, unbalanced features, like those of a trunk."""
    rng = np.random.default_rng(seed)
    labels_N = rng.choice(classes, p=np.arange(1, classes + 1) / sum(range(classes + 1)), size=n)
    f_ND = rng.standard_normal((n, d)) / np.arange(1, d + 1)
    f_ND[:, :4] += distance * rng.standard_normal((classes, 4))[labels_N]
    return np.exp(f_ND @ rng.standard_normal((d, d)) / 3).astype(np.float32), labels_N


def trunk() -> nn.Module:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return nn.Sequential(*layers, nn.Dropout(0.5))


# -- features


def test_features_are_what_the_model_gives_and_leave_it_as_it_was():
    model = trunk().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tiles = np.random.default_rng(0).integers(256, size=(11, 8, 8, 3), dtype=np.uint8)
    tiles.setflags(write=False)  # as packed tiles are
    f_ND = features(model, tiles, mean=MEAN, std=STD, batch=4)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    x_BCHW = (
        torch.from_numpy(tiles.copy()).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]
    ) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        expected = trunk().eval()(x_BCHW).numpy()
    assert f_ND.dtype == np.float32
    np.testing.assert_allclose(f_ND, expected, atol=1e-6)
    np.testing.assert_array_equal(f_ND, features(model, tiles, mean=MEAN, std=STD, batch=4))
    np.testing.assert_allclose(f_ND, features(model, tiles, mean=MEAN, std=STD, batch=11), atol=1e-6)


def test_images_through_the_models_own_transform_give_the_same_features():
    tiles = np.random.default_rng(0).integers(256, size=(7, 8, 8, 3), dtype=np.uint8)

    def transform(image: Image.Image) -> torch.Tensor:
        x_CHW = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        return (x_CHW - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]

    found = features_of_images(trunk(), map(Image.fromarray, tiles), transform=transform, batch=3)
    np.testing.assert_allclose(found, features(trunk(), tiles, mean=MEAN, std=STD), atol=1e-6)


def test_i62_features_that_are_not_finite_are_named():
    model = trunk()
    tiles = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(IntegrityError, match="HZ-I62 features are not finite") as caught:
        features(model, tiles, mean=MEAN, std=STD)
    assert caught.value.where == "rows 0, 1, 2, 3, 4 ..."
    assert caught.value.got == "6 rows with NaN or infinity"


# -- classifier


@pytest.mark.parametrize(
    ("n", "d", "classes"),
    [(300, 40, 2), (300, 40, 5), (60, 100, 2), (60, 100, 3), (15, 200, 4), (1200, 60, 8)],
)
def test_classifier_equals_scikit_learn_at_the_optimum(n, d, classes):
    f_ND, labels_N = blobs(n=n + 1000, d=d, classes=classes)
    f_ND, new_ND, labels_N = f_ND[:n], f_ND[n:], labels_N[:n]
    mean_D, scale_D = f_ND.mean(0, dtype=float), f_ND.std(0, dtype=float)
    x_ND, solver = (f_ND - mean_D) / scale_D, "newton-cg" if n > d else "lbfgs"
    for c, ours in logistic.fit_path(f_ND, labels_N, (1e-5, 1e-4, 1e-3, 1e-1, 1.0)):
        theirs = LogisticRegression(
            C=c, class_weight="balanced", tol=1e-11, max_iter=20_000, solver=solver
        ).fit(x_ND, labels_N)
        shift = ours.weights_DK.mean(1, keepdims=True)  # a constant over classes changes nothing
        columns = theirs.coef_.T if classes > 2 else np.hstack([-theirs.coef_.T, theirs.coef_.T]) / 2
        np.testing.assert_allclose(ours.weights_DK - shift, columns, atol=1e-3 * np.abs(columns).max())
        np.testing.assert_array_equal(ours.predict(new_ND), theirs.predict((new_ND - mean_D) / scale_D))


def test_classes_far_apart_are_fitted_from_the_smallest_to_the_largest_c():
    rng = np.random.default_rng(3)
    labels_N = np.minimum(rng.geometric(0.5, size=1500) - 1, 2)
    f_ND = rng.normal(size=(1500, 200)) + 3 * rng.normal(size=(3, 200))[labels_N]
    f_ND *= np.arange(1, 201) ** -0.5
    for cs in ([1e-8], [1.0, 1e6]):
        for _, fitted in logistic.fit_path(f_ND, labels_N, cs):
            np.testing.assert_array_equal(fitted.predict(f_ND), labels_N)


def test_classifier_does_not_mind_size_and_offset_of_features():
    f_ND, labels_N = blobs(n=200, d=20, classes=3)
    factor_D = 10.0 ** np.random.default_rng(0).integers(-3, 4, size=20)
    for (_, plain), (_, scaled) in zip(
        logistic.fit_path(f_ND, labels_N, (0.01, 1.0)),
        logistic.fit_path(f_ND.astype(float) * factor_D + 7.0, labels_N, (0.01, 1.0)),
        strict=True,
    ):
        np.testing.assert_array_equal(
            plain.predict(f_ND), scaled.predict(f_ND.astype(float) * factor_D + 7.0)
        )


def test_classifier_takes_constant_features_and_skips_absent_classes():
    f_ND, labels_N = blobs(n=100, d=10, classes=2)
    f_ND = f_ND.astype(float)
    f_ND[:, 3] = 0.1  # whose mean rounds, so that its standard deviation is not 0
    assert f_ND[:, 3].std() > 0
    [(_, found)] = logistic.fit_path(f_ND, labels_N * 2, [1.0])  # class 1 has no row
    assert set(found.predict(f_ND)) <= {0, 2}
    assert found.scale_D[3] == 1
    assert np.isfinite(found.weights_DK).all()


def test_u51_a_fit_that_has_not_converged_is_an_error(monkeypatch):
    monkeypatch.setattr(logistic_fit, "_MAX_STEPS", 2)
    f_ND, labels_N = blobs(n=300, d=40, classes=5)
    with pytest.raises(UsageError, match="HZ-U51 the logistic regression did not converge") as caught:
        list(logistic.fit_path(f_ND, labels_N, [1.0]))
    assert "C = 1, 300 tiles, 40 features" in caught.value.where


@pytest.mark.parametrize("c", [0.0, -1.0, float("inf"), float("nan")])
def test_u50_a_penalty_that_is_none_is_refused(c):
    f_ND, labels_N = blobs(n=60, d=5, classes=2)
    with pytest.raises(UsageError, match="HZ-U50 not an inverse penalty"):
        list(logistic.fit_path(f_ND, labels_N, [1.0, c]))


def test_one_class_alone_is_always_predicted():
    f_ND, labels_N = blobs(n=60, d=5, classes=2)
    [(_, found)] = logistic.fit_path(f_ND, labels_N * 0 + 3, [1.0])
    assert (found.predict(f_ND) == 3).all()


# -- probe


def test_probe_predicts_every_row_once_and_is_a_function_of_its_arguments():
    f_ND, labels_N = blobs(n=240, d=16, classes=3)
    groups_N = np.arange(240) // 4
    found, again = (probe(f_ND, labels_N, groups_N, seed=0) for _ in range(2))
    np.testing.assert_array_equal(found.rows_N, np.arange(240))
    np.testing.assert_array_equal(found.guesses_N, again.guesses_N)
    assert set(found.guesses_N) <= {0, 1, 2}
    assert found.c_F == again.c_F and len(found.c_F) == 5
    assert balanced_accuracy(labels_N, found.guesses_N, 3) > 0.5
    assert not np.array_equal(found.fold_N, probe(f_ND, labels_N, groups_N, seed=1).fold_N)


def test_i63_groups_stay_whole_and_classes_are_spread():
    rng = np.random.default_rng(0)
    groups_N = rng.integers(60, size=600)
    labels_N = rng.choice(4, p=[0.7, 0.2, 0.08, 0.02], size=600)
    fold_N = grouped_folds(labels_N, groups_N, seed=0, folds=5)
    assert all(len(np.unique(fold_N[groups_N == g])) == 1 for g in np.unique(groups_N))
    shares = np.array(
        [np.bincount(labels_N[fold_N == f], minlength=4) / (fold_N == f).sum() for f in range(5)]
    )
    assert np.ptp(shares[:, 0]) < 0.1


def test_i63_random_labels_are_not_learnt_from_other_tiles_of_the_group():
    """40 patients with 25 tiles each, labels drawn per patient, features that tell patients apart but not labels."""
    rng = np.random.default_rng(0)
    groups_N = np.repeat(np.arange(40), 25)
    labels_N = rng.permutation(np.arange(40) % 2)[groups_N]
    f_ND = (rng.standard_normal((40, 60))[groups_N] + 0.1 * rng.standard_normal((1000, 60))).astype(
        np.float32
    )
    grouped = probe(f_ND, labels_N, groups_N, seed=0)
    by_tile = probe(f_ND, labels_N, np.arange(1000), seed=0)
    found = estimate(labels_N, grouped.guesses_N, groups_N, classes=2)
    assert found.low <= 0.5 <= found.high
    assert (
        balanced_accuracy(labels_N, by_tile.guesses_N, 2) > 0.95
    )  # what ignoring groups would have reported


def test_i63_fewer_groups_than_folds_are_refused():
    f_ND, labels_N = blobs(n=40, d=5, classes=2)
    with pytest.raises(UsageError, match="HZ-I63 fewer groups than the 5 folds") as caught:
        probe(f_ND, labels_N, np.arange(40) % 4, seed=0)
    assert caught.value.expected == "at least 5 groups"
    assert caught.value.got == "4 groups, 40 tiles"


def test_i62_class_in_a_single_group_is_refused():
    f_ND, labels_N = blobs(n=60, d=5, classes=2)
    groups_N = np.arange(60) // 3
    labels_N[:] = 0
    labels_N[groups_N == 7] = 1
    with pytest.raises(UsageError, match="HZ-I62 a class would be missing from the training rows") as caught:
        probe(f_ND, labels_N, groups_N, seed=0)
    assert "class index 1" in caught.value.where
    assert caught.value.got == "1 groups hold it"


def test_i62_one_class_alone_is_refused():
    f_ND, _ = blobs(n=60, d=5, classes=2)
    with pytest.raises(UsageError, match="HZ-I62"):
        probe(f_ND, np.zeros(60, dtype=np.int64), np.arange(60), seed=0)


def test_i62_nan_feature_is_refused_before_anything_is_fitted():
    f_ND, labels_N = blobs(n=60, d=5, classes=2)
    f_ND[17, 2] = np.nan
    with pytest.raises(IntegrityError, match="HZ-I62 features are not finite") as caught:
        probe(f_ND, labels_N, np.arange(60), seed=0)
    assert caught.value.where == "rows 17"


def test_i64_features_and_labels_of_other_lengths_are_refused():
    f_ND, labels_N = blobs(n=60, d=5, classes=2)
    for rows in (59, 61):
        with pytest.raises(UsageError, match="HZ-I64"):
            probe(np.resize(f_ND, (rows, 5)), labels_N, np.arange(60), seed=0)


def split_of(n: int) -> SimpleNamespace:
    rows = np.random.default_rng(0).permutation(n)
    return SimpleNamespace(train=rows[: n // 2], val=rows[n // 2 : 3 * n // 4], test=rows[3 * n // 4 :])


def test_probe_split_reports_test_rows_only_and_learns_nothing_from_them():
    f_ND, labels_N = blobs(n=400, d=16, classes=3)
    split = split_of(400)
    found = probe_split(f_ND, labels_N, split)
    np.testing.assert_array_equal(found.rows_N, split.test)
    assert balanced_accuracy(labels_N[split.test], found.guesses_N, 3) > 0.5
    other = labels_N.copy()
    other[split.test] = 2 - other[split.test]
    np.testing.assert_array_equal(probe_split(f_ND, other, split).guesses_N, found.guesses_N)
    other = labels_N.copy()
    other[split.train] = 2 - other[split.train]
    assert not np.array_equal(probe_split(f_ND, other, split).guesses_N, found.guesses_N)


def test_probe_split_chooses_c_on_validation_rows():
    rng = np.random.default_rng(0)
    labels_N = np.tile([0, 1], 100)
    f_ND = rng.standard_normal((200, 300)).astype(np.float32)
    f_ND[:, 0] += 3 * (labels_N - 0.5)
    split = split_of(200)
    scores = {c: probe_split(f_ND, labels_N, split, cs=[c]) for c in (1e-4, 1.0)}
    val = SimpleNamespace(train=split.train, val=split.val, test=split.val)
    on_val = {
        c: balanced_accuracy(labels_N[split.val], probe_split(f_ND, labels_N, val, cs=[c]).guesses_N, 2)
        for c in scores
    }
    best = max(sorted(on_val), key=lambda c: on_val[c])
    found = probe_split(f_ND, labels_N, split, cs=[1e-4, 1.0])
    assert found.c_F == (best,)
    np.testing.assert_array_equal(found.guesses_N, scores[best].guesses_N)


def test_i62_validation_rows_without_a_class_are_refused():
    f_ND, labels_N = blobs(n=400, d=16, classes=3)
    split = split_of(400)
    split.val = split.val[labels_N[split.val] != 2]
    with pytest.raises(UsageError, match="HZ-I62 balanced_accuracy is undefined"):
        probe_split(f_ND, labels_N, split)
