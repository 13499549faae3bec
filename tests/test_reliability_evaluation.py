"""Cases 62 to 64 of the fault catalogue, by number, and its random-label control."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.evaluate import probe, scored, statistics
from histozoo.evaluate.calibration import reliability
from histozoo.evaluate.resampling import apart
from histozoo.evaluate.verdicts import compare

METRICS = sorted(scored.METRICS)


def case(metric: str, *, tiles: int = 60, seed: int = 0):
    """Labels, a model's output in the shape that the metric takes, and groups of three tiles."""
    rng = np.random.default_rng(seed)
    labels_N, p_NK = np.arange(tiles) % 2, rng.dirichlet([1, 1], tiles)
    output = p_NK[:, 1] if metric in ("roc_auc", "average_precision") else p_NK
    return labels_N, output, np.repeat(np.arange(tiles // 3), 3).astype(str)


def caught(call) -> HistozooError:
    with pytest.raises(HistozooError) as error:
        call()
    return error.value


# -- 62: nothing undefined becomes a number --


@pytest.mark.parametrize("metric", [m for m in METRICS if scored.METRICS[m] and m not in ("accuracy",)])
def test_62_a_test_set_of_one_class_gives_no_number(metric):
    labels_N, output, groups_N = case(metric)
    output = np.tile([1.0, 0.0], (60, 1)) if output.ndim == 2 else output
    error = caught(lambda: scored.estimate(np.zeros_like(labels_N), output, groups_N, metric=metric))
    assert error.code == "HZ-I62" and metric in error.what and "undefined" in error.what
    assert error.expected and error.got and error.next_step


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_62_output_that_is_not_finite_is_refused_by_row(metric, bad):
    labels_N, output, groups_N = case(metric)
    output = output.copy()
    output[[4, 9]] = bad
    error = caught(lambda: scored.estimate(labels_N, output, groups_N, metric=metric))
    assert (error.code, error.where, error.kept) == ("HZ-I65", "rows 4, 9", "nothing was scored")
    assert "2 rows with NaN or infinity" in error.got


def test_62_features_that_are_not_finite_are_refused_by_row():
    f_ND = np.ones((20, 4), np.float32)
    f_ND[3, 1] = np.nan
    with pytest.raises(IntegrityError, match="HZ-I62 features are not finite") as error:
        probe.probe(f_ND, np.arange(20) % 2, np.arange(20).astype(str), seed=0)
    assert error.value.where == "rows 3"


def test_62_a_fold_that_would_lack_a_class_is_refused():
    labels_N = np.r_[np.zeros(15, int), np.ones(5, int)]
    groups_N = np.r_[np.arange(15), np.full(5, 99)].astype(str)
    error = caught(lambda: probe.grouped_folds(labels_N, groups_N, seed=0, folds=5))
    assert error.code == "HZ-I62" and "class index 1" in error.where


@pytest.mark.parametrize(
    "metric", ["balanced_accuracy", "f1_macro", "roc_auc", "roc_auc_ovr", "average_precision"]
)
def test_62_undefined_resamples_are_excluded_and_their_number_is_stated(metric):
    labels_N, output, groups_N = case(metric)
    labels_N = np.zeros_like(labels_N)
    labels_N[:6] = 1  # two of twenty groups
    found = scored.estimate(labels_N, output, groups_N, metric=metric, resamples=4000)
    assert found.undefined == pytest.approx(4000 * 0.9**20, abs=120)
    assert found.resamples == 4000 and np.isfinite(found.interval).all()


def test_62_an_undefined_metric_never_enters_a_comparison():
    resampled = np.random.default_rng(0).random((500, 2))
    for value in (np.nan, None):
        error = caught(
            lambda value=value: compare(["t"], ("a", "b"), [[0.5, value]], [resampled], groups=[9])
        )
        assert error.code == "HZ-I62"
    nothing = np.full((500, 2), np.nan)
    assert caught(lambda: compare(["t"], ("a", "b"), [[0.5, 0.6]], [nothing], groups=[9])).code in (
        "HZ-I62",
        "HZ-I65",
    )


# -- 63: groups, never tiles --


@pytest.mark.parametrize("metric", METRICS)
def test_63_tiles_that_repeat_their_group_do_not_narrow_the_interval(metric):
    """Fifty copies of every tile are no new patient: over groups the interval stays, over tiles it would shrink seven times."""
    labels_N, output, groups_N = case(metric)
    once = scored.estimate(labels_N, output, groups_N, metric=metric, resamples=400)
    copied = [np.repeat(x, 50, axis=0) for x in (labels_N, output, groups_N)]
    again = scored.estimate(*copied, metric=metric, resamples=400)
    assert again.interval == pytest.approx(once.interval, abs=1e-9)
    assert (again.n, again.n_groups) == (3000, 20)
    over_tiles = scored.estimate(copied[0], copied[1], np.arange(3000), metric=metric, resamples=400)
    assert over_tiles.high - over_tiles.low < 0.3 * (once.high - once.low)


@pytest.mark.parametrize("metric", METRICS)
def test_63_one_group_gives_no_interval(metric):
    labels_N, output, _ = case(metric)
    error = caught(lambda: scored.estimate(labels_N, output, ["p"] * 60, metric=metric))
    assert error.code == "HZ-I63" and "1 groups, 60 tiles" in error.got


def test_63_fewer_groups_than_folds_is_refused():
    error = caught(lambda: probe.grouped_folds(np.arange(9) % 2, np.repeat(list("abc"), 3), seed=0, folds=5))
    assert error.code == "HZ-I63" and "3 groups, 9 tiles" in error.got


def test_63_a_group_on_both_sides_is_refused_by_name():
    apart(["p1", "p2"], ["p3"])
    with pytest.raises(UsageError, match="HZ-I63 groups are on both sides of the split") as error:
        apart(["p1", "p2", "p2"], ["p2", "p3"])
    assert error.value.where == "group p2"
    assert "tiles of one group are never divided" in error.value.next_step


def test_63_folds_never_divide_a_group():
    rng = np.random.default_rng(0)
    groups_N, labels_N = rng.integers(30, size=400), rng.integers(2, size=400)
    fold_N = probe.grouped_folds(labels_N, groups_N, seed=0, folds=5)
    assert all(len(np.unique(fold_N[groups_N == g])) == 1 for g in np.unique(groups_N))
    for fold in range(5):
        apart(groups_N[fold_N != fold], groups_N[fold_N == fold])


# -- 64: rows that do not belong together --


@pytest.mark.parametrize("metric", METRICS)
def test_64_rows_of_another_number_are_refused(metric):
    labels_N, output, groups_N = case(metric)
    for bad in (
        (labels_N[1:], output, groups_N),
        (labels_N, output[1:], groups_N),
        (labels_N, output, groups_N[1:]),
    ):
        error = caught(lambda bad=bad: scored.estimate(*bad, metric=metric))
        assert error.code == "HZ-I64" and "by tile name, never by position" in error.next_step


@pytest.mark.parametrize("metric", METRICS)
def test_64_models_of_other_rows_are_not_compared(metric):
    labels_N, output, groups_N = case(metric)
    error = caught(lambda: scored.difference(labels_N, output, output[:-3], groups_N, metric=metric))
    assert error.code == "HZ-I64"


def test_64_reliability_and_confusion_refuse_other_rows():
    labels_N, p_NK, _ = case("log_loss")
    assert caught(lambda: reliability(labels_N, p_NK[1:])).code == "HZ-I64"
    assert caught(lambda: statistics.confusion(labels_N, labels_N[1:], 2)).code == "HZ-I64"


# -- random-label control --


def noise(seed: int, *, groups: int, tiles: int = 5, features: int = 20):
    """Labels of patients drawn by lot, and features that tell the patient and nothing else."""
    rng = np.random.default_rng(seed)
    groups_N = np.repeat(np.arange(groups), tiles)
    labels_N = rng.permutation(np.arange(groups) % 2)[groups_N]
    f_ND = rng.normal(size=(groups, features))[groups_N] + 0.2 * rng.normal(size=(len(groups_N), features))
    return f_ND, labels_N, groups_N


def held_out(seed: int, *, by_group: bool, groups: int = 160):
    """AUROC with its interval of a linear classifier on the half that it was not trained on, halves made of groups or of tiles."""
    f_ND, labels_N, groups_N = noise(seed, groups=groups)
    units_N = (groups_N if by_group else np.arange(len(groups_N))).astype(str)
    train = probe.grouped_folds(labels_N, units_N, seed=seed, folds=2) == 0
    classifier = LogisticRegression().fit(f_ND[train], labels_N[train])
    scores_N = classifier.decision_function(f_ND[~train])
    return scored.estimate(
        labels_N[~train], scores_N, groups_N[~train], metric="roc_auc", seed=seed, resamples=600
    )


def test_random_label_control_grouped_auroc_on_noise_is_one_half_and_its_interval_says_so():
    found = [held_out(seed, by_group=True) for seed in range(200)]
    assert np.mean([f.value for f in found]) == pytest.approx(0.5, abs=0.02)
    assert 0.92 <= np.mean([f.low <= 0.5 <= f.high for f in found]) <= 0.98
    assert {f.n_groups for f in found} == {80}


def test_random_label_control_by_tiles_reads_the_patient():
    """What groups are for: the same noise, halves made of tiles, and the classifier knows every patient."""
    assert np.mean([held_out(seed, by_group=False, groups=16).value for seed in range(10)]) > 0.95


def test_scores_of_noise_are_one_half_and_an_interval_over_tiles_would_not_say_so():
    rng, found, over_tiles = np.random.default_rng(0), [], 0
    for repeat in range(200):
        groups_N = np.repeat(np.arange(80), 10)
        labels_N = rng.permutation(np.arange(80) % 2)[groups_N]
        scores_N = 2 * rng.normal(size=80)[groups_N] + rng.normal(size=800)
        found.append(
            scored.estimate(labels_N, scores_N, groups_N, metric="roc_auc", seed=repeat, resamples=600)
        )
        if repeat < 40:
            tiles = scored.estimate(labels_N, scores_N, np.arange(800), metric="roc_auc", resamples=200)
            over_tiles += tiles.low <= 0.5 <= tiles.high
    assert np.mean([f.value for f in found]) == pytest.approx(0.5, abs=0.02)
    assert 0.92 <= np.mean([f.low <= 0.5 <= f.high for f in found]) <= 0.98
    assert over_tiles / 40 < 0.75


def test_a_probe_on_noise_is_at_chance_over_groups_and_nearly_perfect_over_tiles():
    f_ND, labels_N, groups_N = noise(0, groups=40, tiles=8, features=60)

    def measured(units_N):
        guesses_N = probe.probe(
            f_ND.astype(np.float32), labels_N, units_N.astype(str), seed=0, cs=[0.1]
        ).guesses_N
        return statistics.balanced_accuracy(labels_N, guesses_N, 2)

    assert measured(groups_N) == pytest.approx(0.5, abs=0.2)
    assert measured(np.arange(320)) > 0.95


@pytest.mark.slow
def test_random_label_control_of_the_logistic_protocol_and_what_plain_intervals_would_say():
    """Folds share their training rows, which no resampling of their predictions can see: hence the spread of `over_folds`."""
    found, plain = [], 0
    for seed in range(200):
        f_ND, labels_N, groups_N = noise(seed, groups=60)
        p = probe.logistic(f_ND.astype(np.float32), labels_N, groups_N.astype(str), seed=seed)
        how = {"metric": "roc_auc", "resamples": 600}
        found.append(scored.estimate(labels_N, p.scores_NK[:, 1], groups_N, fold_N=p.fold_N, **how))
        over_groups = scored.estimate(labels_N, p.scores_NK[:, 1], groups_N, **how)
        plain += over_groups.low <= 0.5 <= over_groups.high
    assert np.mean([f.value for f in found]) == pytest.approx(0.5, abs=0.02)
    assert 0.92 <= np.mean([f.low <= 0.5 <= f.high for f in found]) <= 0.98
    assert 0.65 <= plain / 200 <= 0.9
