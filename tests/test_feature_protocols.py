"""Every protocol on features keeps the same promises; each classifier is what scikit-learn's is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.svm import LinearSVC

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import FEATURE_PROTOCOLS, crossval, folds, linear_svm, logistic, scored, simpleshot
from histozoo.evaluate import knn as neighbours
from histozoo.evaluate.statistics import balanced_accuracy

every_protocol = pytest.mark.parametrize("name", FEATURE_PROTOCOLS)
# Fewer settings and episodes than the presets have: what is promised does not hang on them.
OPTIONS = {"simpleshot": {"episodes": 40}, "linear_svm": {"cs": (1e-6, 1e-3, 1e-1)}}


def task(
    *, groups: int = 24, tiles: int = 5, classes: int = 3, width: int = 12, apart: float = 1.5, seed: int = 0
):
    """Groups of one class each; features around a centre of the class and one of the group."""
    rng = np.random.default_rng(seed)
    groups_N = np.repeat(np.arange(groups), tiles)
    labels_N = rng.permutation(np.arange(groups) % classes)[groups_N]
    f_ND = apart * rng.normal(size=(classes, width))[labels_N] + rng.normal(size=(len(groups_N), width))
    return (f_ND + 0.5 * rng.normal(size=(groups, width))[groups_N]).astype(np.float32), labels_N, groups_N


def run(name: str, *arguments, **options):
    return FEATURE_PROTOCOLS[name](*arguments, seed=0, **OPTIONS.get(name, {}) | options)


def split_of(groups_N):
    part_N = groups_N % 4
    return SimpleNamespace(
        train=np.flatnonzero(part_N < 2), val=np.flatnonzero(part_N == 2), test=np.flatnonzero(part_N == 3)
    )


# -- promises of all


@every_protocol
def test_perfect_features_score_1(name):
    _, labels_N, groups_N = task()
    found = run(name, np.eye(3, dtype=np.float32)[labels_N], labels_N, groups_N)
    assert balanced_accuracy(labels_N, found.guesses_N, 3) == 1
    if found.probabilities:
        assert (
            scored.estimate(labels_N, found.scores_NK, groups_N, metric="roc_auc_ovr", resamples=50).value
            == 1
        )


@every_protocol
def test_shuffled_labels_score_chance(name):
    values = []
    for seed in range(6):
        f_ND, _, groups_N = task(groups=40, tiles=3, seed=seed, apart=2.0)
        labels_N = np.random.default_rng(100 + seed).permutation(np.arange(40) % 2)[groups_N]
        values.append(balanced_accuracy(labels_N, run(name, f_ND, labels_N, groups_N).guesses_N, 2))
    assert np.mean(values) == pytest.approx(0.5, abs=0.1)


@every_protocol
def test_labels_that_mean_nothing_are_remembered_where_groups_are_divided(name):
    """What the test above would see if a fold divided a group: these features tell groups apart."""
    rng = np.random.default_rng(0)
    groups_N = np.repeat(np.arange(12), 5)
    f_ND = (rng.normal(size=(12, 60))[groups_N] + 0.1 * rng.normal(size=(60, 60))).astype(np.float32)
    labels_N = rng.permutation(np.arange(12) % 2)[groups_N]
    whole, divided = (run(name, f_ND, labels_N, g).guesses_N for g in (groups_N, np.arange(60)))
    assert balanced_accuracy(labels_N, divided, 2) > 0.9 > 0.8 > balanced_accuracy(labels_N, whole, 2)


@every_protocol
@pytest.mark.parametrize("official", [False, True])
def test_the_same_seed_gives_the_same_numbers(name, official):
    f_ND, labels_N, groups_N = task()
    split = split_of(groups_N) if official else None
    found, again = (run(name, f_ND.copy(), labels_N, groups_N, split=split) for _ in range(2))
    for field in ("rows_N", "guesses_N", "fold_N", "scores_NK"):
        np.testing.assert_array_equal(getattr(found, field), getattr(again, field))
    assert found.c_F == again.c_F
    assert balanced_accuracy(labels_N[found.rows_N], found.guesses_N, 3) > 0.6


@every_protocol
def test_what_is_predicted_is_whole(name):
    f_ND, labels_N, groups_N = task()
    found = run(name, f_ND, labels_N, groups_N)
    np.testing.assert_array_equal(found.rows_N, np.arange(len(labels_N)))
    np.testing.assert_array_equal(found.guesses_N, found.scores_NK.argmax(1))
    assert found.scores_NK.shape == (len(labels_N), 3) and found.scores_NK.dtype == np.float32
    assert np.isfinite(found.scores_NK).all() and len(found.c_F) == 5
    metric = "log_loss" if found.probabilities else "roc_auc_ovr_weighted"
    if metric in scored.METRICS:
        assert np.isfinite(
            scored.estimate(labels_N, found.scores_NK, groups_N, metric=metric, resamples=50).value
        )


@every_protocol
def test_no_classifier_sees_a_row_of_a_group_it_predicts(name, monkeypatch):
    """Features are row numbers: whoever learns from them tells which rows it had, in the outer and in the inner folds."""
    f_ND, labels_N, groups_N = task()
    f_ND[:, 0] = np.arange(len(f_ND))
    seen = []
    if name == "simpleshot":
        inner = simpleshot._episodes

        def episodes(f, labels, part, **options):
            seen.append((part.train, part.test))
            return inner(f, labels, part, **options)

        monkeypatch.setattr(simpleshot, "_episodes", episodes)
        run(name, f_ND, labels_N, groups_N)
    else:
        inner = crossval._scores

        def scores(family, f, labels, train, asked, *rest):
            seen.append((train, asked))
            return inner(family, f, labels, train, asked, *rest)

        monkeypatch.setattr(crossval, "_scores", scores)
        run(name, f_ND, labels_N, groups_N)
    assert len(seen) >= 5
    for train, asked in seen:
        assert not np.intersect1d(groups_N[train], groups_N[asked]).size


@every_protocol
def test_groups_that_can_be_told_apart_do_not_help(name):
    """Labels by lot per group, features that tell groups and not labels: rows of a group divided would score nearly 1."""
    rng = np.random.default_rng(0)
    groups_N = np.repeat(np.arange(40), 4)
    labels_N = rng.permutation(np.arange(40) % 2)[groups_N]
    # More features than groups, so that a plane exists for any labels.
    f_ND = (rng.normal(size=(40, 60))[groups_N] + 0.05 * rng.normal(size=(160, 60))).astype(np.float32)
    grouped = balanced_accuracy(labels_N, run(name, f_ND, labels_N, groups_N).guesses_N, 2)
    assert grouped < 0.75
    if name != "simpleshot":  # a handful of tiles does not know all groups
        assert balanced_accuracy(labels_N, run(name, f_ND, labels_N, np.arange(160)).guesses_N, 2) > 0.95


@every_protocol
def test_a_split_is_kept(name):
    f_ND, labels_N, groups_N = task()
    split = split_of(groups_N)
    found = run(name, f_ND, labels_N, groups_N, split=split)
    np.testing.assert_array_equal(found.rows_N, split.test)
    assert not found.fold_N.any() and len(found.c_F) == 1
    other = labels_N.copy()
    other[split.test] = (other[split.test] + 1) % 3
    np.testing.assert_array_equal(
        run(name, f_ND, other, groups_N, split=split).scores_NK, found.scores_NK
    )  # test labels are not looked at
    bare = SimpleNamespace(train=split.train, val=np.array([], dtype=int), test=split.test)
    assert len(run(name, f_ND, labels_N, groups_N, split=bare).guesses_N) == len(split.test)


@every_protocol
def test_a_class_that_no_row_has_is_never_guessed(name):
    f_ND, labels_N, groups_N = task(classes=2)
    found = run(name, f_ND, labels_N * 2, groups_N, **_one(name))
    assert found.scores_NK.shape[1] == 3 and set(found.guesses_N) <= {0, 2}


def _one(name):
    return {"knn": {"ks": [3]}, "simpleshot": {}}.get(name, {"cs": [0.1]})


# -- what is refused


@every_protocol
def test_i62_nan_is_refused(name):
    f_ND, labels_N, groups_N = task()
    f_ND[17, 2] = np.nan
    with pytest.raises(IntegrityError, match="HZ-I62 features are not finite") as caught:
        run(name, f_ND, labels_N, groups_N)
    assert caught.value.where == "rows 17"


@every_protocol
def test_i62_a_test_split_without_a_class_is_refused(name):
    f_ND, labels_N, groups_N = task()
    split = split_of(groups_N)
    split.test = split.test[labels_N[split.test] != 1]
    with pytest.raises(UsageError, match="HZ-I62 the test rows of the split lack a class") as caught:
        run(name, f_ND, labels_N, groups_N, split=split)
    assert caught.value.where == "class index 1"


@every_protocol
def test_i63_a_group_on_both_sides_is_refused(name):
    f_ND, labels_N, groups_N = task()
    split = split_of(groups_N)
    split.test, split.train = split.test[1:], np.append(split.train, split.test[0])
    with pytest.raises(UsageError, match="HZ-I63 groups are on both sides of the split"):
        run(name, f_ND, labels_N, groups_N, split=split)


@every_protocol
def test_i63_fewer_groups_than_folds_are_refused(name):
    f_ND, labels_N, groups_N = task(groups=4, classes=2)
    with pytest.raises(UsageError, match=r"HZ-I63 fewer groups than the \d+ folds"):
        run(name, f_ND, labels_N, groups_N)


@every_protocol
def test_i64_other_lengths_and_rows_that_are_not_there_are_refused(name):
    f_ND, labels_N, groups_N = task()
    for arguments in ((f_ND[1:], labels_N, groups_N), (f_ND, labels_N, groups_N[1:])):
        with pytest.raises(UsageError, match="HZ-I64"):
            run(name, *arguments)
    split = split_of(groups_N)
    split.test = split.test + 1
    with pytest.raises(UsageError, match="HZ-I64 the split names rows that are not there"):
        run(name, f_ND, labels_N, groups_N, split=split)


def test_i63_a_setting_cannot_be_chosen_from_one_group():
    _, labels_N, _ = task(classes=2)
    with pytest.raises(UsageError, match="HZ-I63 a setting cannot be chosen"):
        folds.inner_folds(labels_N, np.zeros(len(labels_N)), seed=0, folds=3)


def test_u50_no_setting_is_refused():
    f_ND, labels_N, groups_N = task()
    for name, options in (("logistic", {"cs": []}), ("knn", {"ks": []}), ("knn", {"ks": [0, 1]})):
        with pytest.raises(UsageError, match="HZ-U50"):
            run(name, f_ND, labels_N, groups_N, **options)


# -- beside scikit-learn


def test_logistic_is_no_worse_than_scikit_learn_where_classes_can_be_told_apart():
    """The loss is then tiny at large C, and so must be the gradient at which a fit counts as converged."""
    f_ND, labels_N, _ = task(apart=3.0)
    x_ND = (f_ND - f_ND.mean(0, dtype=float)) / f_ND.std(0, dtype=float)
    weight_N = (len(x_ND) / 3 / np.bincount(labels_N))[labels_N]

    def objective(c, weights_DK, bias_K):
        losses_NK = -log_softmax(x_ND @ weights_DK + bias_K, axis=1)
        return c * weight_N @ losses_NK[np.arange(len(x_ND)), labels_N] + np.square(weights_DK).sum() / 2

    for c, ours in logistic.fit_path(f_ND, labels_N, (1.0, 100.0, 1e4)):
        fit = LogisticRegression(C=c, class_weight="balanced", tol=1e-10, max_iter=100_000).fit(
            x_ND, labels_N
        )
        assert objective(c, ours.weights_DK, ours.bias_K) <= (1 + 1e-6) * objective(
            c, fit.coef_.T, fit.intercept_
        )


@pytest.mark.parametrize("seed", range(8))
def test_logistic_ends_at_the_optimum_of_random_problems(seed):
    """Few rows or many, classes rare or even, told apart or not, and penalties far apart."""
    random = np.random.default_rng(seed)
    n, d, k = (int(random.choice(of)) for of in ((6, 60, 600), (1, 30, 200), (2, 3, 8)))
    rare_N = np.minimum(random.geometric(0.5, size=n) - 1, k - 1)
    labels_N = np.r_[np.arange(k), random.integers(k, size=n) if seed % 2 else rare_N]
    f_ND = (
        random.normal(size=(n + k, d))
        + random.choice([0, 0.1, 0.5, 3]) * random.normal(size=(k, d))[labels_N]
    )
    x_ND = (f_ND - f_ND.mean(0)) / f_ND.std(0)
    weight_N = ((n + k) / k / np.bincount(labels_N))[labels_N]

    def objective(c, weights_DK, bias_K):
        losses_NK = -log_softmax(x_ND @ weights_DK + bias_K, axis=1)
        norm = np.square(weights_DK).sum() * (2 if k == 2 else 1)  # of the one vector of the binary form
        return c * weight_N @ losses_NK[np.arange(n + k), labels_N] + norm / 2

    for c, ours in logistic.fit_path(f_ND, labels_N, [1e-4, *10.0 ** random.uniform(-6, 6, size=3)]):
        fit = LogisticRegression(C=c, class_weight="balanced", tol=1e-12, max_iter=20_000, solver="newton-cg")
        fit.fit(x_ND, labels_N)
        two = (np.hstack([-fit.coef_.T, fit.coef_.T]) / 2, np.r_[-fit.intercept_, fit.intercept_] / 2)
        theirs = two if k == 2 else (fit.coef_.T, fit.intercept_)
        above = objective(c, ours.weights_DK, ours.bias_K) / objective(c, *theirs) - 1
        assert above <= (1e-6 if c <= 1 else 1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_logistic_says_of_rare_classes_what_scikit_learn_says_under_the_strongest_penalty(seed):
    """Weights are then near 0 and the bias, which nobody penalises, decides."""
    random = np.random.default_rng(seed)
    labels_N = np.r_[np.arange(7), np.minimum(random.geometric(0.4, size=133) - 1, 6)]
    f_ND = random.normal(size=(140, 64)) + 0.5 * random.normal(size=(7, 64))[labels_N]
    [(_, ours)] = logistic.fit_path(f_ND, labels_N, [1e-4])
    x_ND = (f_ND - f_ND.mean(0)) / f_ND.std(0)
    fit = LogisticRegression(C=1e-4, class_weight="balanced", tol=1e-10, max_iter=20_000).fit(x_ND, labels_N)
    asked_ND = random.normal(size=(500, 64))
    same_N = ours.predict(f_ND.mean(0) + f_ND.std(0) * asked_ND) == fit.predict(asked_ND)
    assert same_N.mean() >= 0.99


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("width", [8, 150])
def test_svm_is_liblinears(classes, width):
    f_ND, labels_N, _ = task(groups=20, classes=classes, width=width, apart=0.3)
    f_ND = np.abs(f_ND) * 3
    for c, weights_DK in linear_svm.fit_path(f_ND, labels_N, (1e-10, 1e-4, 1e-2, 1.0)):
        theirs = LinearSVC(C=c, dual=False, tol=1e-12, max_iter=100_000).fit(f_ND.astype(float), labels_N)
        expected = np.vstack([theirs.coef_.T, theirs.intercept_])
        np.testing.assert_allclose(weights_DK, expected, rtol=0, atol=2e-3 * np.abs(expected).max())


def test_the_papers_grid_is_the_preset():
    f_ND, labels_N, groups_N = task()
    found = FEATURE_PROTOCOLS["linear_svm"](f_ND, labels_N, groups_N, seed=0)
    assert linear_svm.CS == tuple(10.0**p for p in range(-10, 1)) and set(found.c_F) <= set(linear_svm.CS)
    assert balanced_accuracy(labels_N, found.guesses_N, 3) > 0.6


def test_u51_svm_that_has_not_converged_is_an_error(monkeypatch):
    monkeypatch.setattr(linear_svm, "_MAX_STEPS", 2)
    f_ND, labels_N, _ = task(apart=0.3)
    with pytest.raises(UsageError, match="HZ-U51 the support vector machine did not converge"):
        list(linear_svm.fit_path(f_ND, labels_N, [1.0]))


@pytest.mark.parametrize("k", [1, 3, 10, 1000])
def test_knn_is_scikit_learns(k, monkeypatch):
    monkeypatch.setattr(neighbours, "_PAIRS_AT_ONCE", 1000)  # several blocks
    f_ND, labels_N, _ = task(apart=0.4, groups=30)
    query_MD = task(apart=0.4, groups=30, seed=1)[0]
    [(setting, votes_MK)] = neighbours.votes(f_ND, labels_N, query_MD, settings=[k])
    theirs = KNeighborsClassifier(min(k, len(f_ND)), metric="cosine", algorithm="brute")
    theirs.fit(f_ND - f_ND.mean(0), labels_N)
    assert setting == k
    np.testing.assert_allclose(votes_MK, theirs.predict_proba(query_MD - f_ND.mean(0)), atol=1e-12)
    np.testing.assert_array_equal(votes_MK.argmax(1), theirs.predict(query_MD - f_ND.mean(0)))


def test_knn_of_equally_near_rows_takes_the_first():
    x_ND = neighbours.unit(np.array([[1, 0], [2, 0], [3, 0], [0, 1], [0, 0]]))
    np.testing.assert_array_equal(neighbours.neighbours(x_ND, x_ND[:1], 3), [[0, 1, 2]])
    assert np.isfinite(x_ND).all()


def test_simpleshot_is_the_nearest_centroid():
    f_ND, labels_N, _ = task(apart=0.6)
    rng = np.random.default_rng(0)
    rows_EKS = np.stack([[rng.choice(np.flatnonzero(labels_N == k), 4) for k in range(3)] for _ in range(9)])
    scores_MEK = simpleshot.centroid_scores(f_ND[rows_EKS], f_ND)
    for episode, rows_KS in enumerate(rows_EKS):
        support = f_ND[rows_KS.ravel()].astype(float)
        mean_D = support.mean(0)
        theirs = NearestCentroid().fit(_unit(support - mean_D), np.repeat(np.arange(3), 4))
        np.testing.assert_array_equal(scores_MEK[:, episode].argmax(1), theirs.predict(_unit(f_ND - mean_D)))


def _unit(x_ND):
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def test_simpleshot_tells_the_spread_and_more_shots_help():
    f_ND, labels_N, groups_N = task(groups=45, apart=0.5)
    found = FEATURE_PROTOCOLS["simpleshot"](f_ND, labels_N, groups_N, seed=0, episodes=200)
    assert [s.shots for s in found.shots] == [1, 2, 4, 8, 16]
    means, spreads = [s.mean for s in found.shots], [s.sd for s in found.shots]
    assert means == sorted(means) and spreads[0] > spreads[-1] > 0
    for s in found.shots:
        low, median, high = s.percentiles()
        assert low < median < high and low < s.mean < high and s.values_E.shape == (200,)
    np.testing.assert_allclose(found.scores_NK.sum(1), 1, atol=1e-6)


def test_simpleshot_says_which_shots_the_rarest_class_is_too_small_for():
    f_ND, labels_N, groups_N = task(groups=24, tiles=4, classes=2)
    kept_N = (labels_N == 0) | (groups_N % 4 == 0)  # of the second class a few groups only
    f_ND, labels_N, groups_N = f_ND[kept_N], labels_N[kept_N], groups_N[kept_N]
    found = simpleshot.simpleshot(f_ND, labels_N, groups_N, seed=0, folds=3, episodes=2)
    least = min(
        (labels_N[part.train] == 1).sum() for part in folds.parts(labels_N, groups_N, seed=0, folds=3)
    )
    assert found.rarest == least and 8 <= least < 16
    assert [s.shots for s in found.shots] == [1, 2, 4, 8] and found.too_many == (16,)
    given = simpleshot.simpleshot(f_ND, labels_N, groups_N, seed=0, folds=3, shots=[2], episodes=2)
    assert given.too_many == () and given.rarest == least
    assert FEATURE_PROTOCOLS["simpleshot"](*task(groups=45), seed=0, episodes=2).too_many == ()


def test_simpleshot_episodes_score_what_scikit_learn_says():
    f_ND, labels_N, groups_N = task(apart=0.5)
    found = simpleshot.simpleshot(f_ND, labels_N, groups_N, seed=0, shots=[2], episodes=1)
    assert found.shots[0].values_E[0] == pytest.approx(balanced_accuracy_score(labels_N, found.guesses_N))
    assert found.shots[0].sd == 0


def test_simpleshot_draws_the_same_tiles_for_every_encoder(monkeypatch):
    drawn, inner = [], simpleshot._drawn
    monkeypatch.setattr(simpleshot, "_drawn", lambda *a, **k: drawn.append(inner(*a, **k)) or drawn[-1])
    for width in (5, 9):
        f_ND, labels_N, groups_N = task(width=width)
        labels_N = groups_N % 3
        simpleshot.simpleshot(f_ND, labels_N, groups_N, seed=0, shots=[1, 4], episodes=3)
    half = len(drawn) // 2
    assert all(np.array_equal(a, b) for a, b in zip(drawn[:half], drawn[half:], strict=True))
    assert all(len(set(row)) == len(row) for rows in drawn for row in rows)


@pytest.mark.parametrize("options", [{"shots": [1000]}, {"shots": [0]}, {"shots": []}, {"episodes": 0}])
def test_i66_episodes_that_cannot_be_drawn_are_refused(options):
    with pytest.raises(UsageError, match="HZ-I66 episodes cannot be drawn so"):
        simpleshot.simpleshot(*task(), seed=0, **options)
