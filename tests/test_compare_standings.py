"""What cells say: values and intervals of histozoo.evaluate.scored, what was seen is not ranked, few lineages crown nobody."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm, t

from histozoo.errors import UsageError
from histozoo.evaluate import scored
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.shots import few_shots
from histozoo.evaluate.compare.standings import CALIBRATION, FEWEST, METRICS, offered, standings
from histozoo.evaluate.compare.table import table
from histozoo.evaluate.few_groups import NOT_CALLED
from histozoo.evaluate.seeds import over_seeds
from histozoo.evaluate.verdicts import NO_WINNER
from tests.fakes.compared import cell, guesses

TASKS = tuple(f"drawn_{i}" for i in range(FEWEST))


def side_by_side(tasks: tuple[str, ...] = TASKS, **first: object) -> list[Cell]:
    """A model that is nearly always right and one that guesses."""
    found = []
    for i, task in enumerate(tasks):
        found.append(cell("good", task, guesses(task, 0.97, seed=i), **first))
        found.append(cell("poor", task, guesses(task, 0.5, seed=i + 50)))
    return found


@pytest.mark.parametrize("metric", [*METRICS, CALIBRATION])
def test_values_and_intervals_are_those_of_scored(metric: str) -> None:
    found = standings(side_by_side(TASKS[:2]), metric=metric, seed=3, resamples=500)
    for row in found.rows:
        (c,) = [c for c in side_by_side(TASKS[:2]) if (c.model, c.task) == (row.model, row.task)]
        wanted = scored.estimate(c.labels_N, c.scores_NK, c.groups_N, metric=metric, seed=3, resamples=500)
        assert (row.value, row.low, row.high) == (wanted.value, wanted.low, wanted.high)
        assert (row.n, row.n_groups, row.n_models) == (wanted.n, wanted.n_groups, 1)
        assert row.seed_sd is None and row.total_low is None
    for v in found.verdicts:
        pair = {c.model: c for c in side_by_side(TASKS[:2]) if c.task == v.task}
        difference = scored.difference(
            pair["good"].labels_N,
            pair["good"].scores_NK,
            pair["poor"].scores_NK,
            pair["good"].groups_N,
            metric=metric,
            seed=3,
            resamples=500,
        )
        groups, value = difference.n_groups, difference.value  # further from the value, for few groups
        wide = math.sqrt(groups / (groups - 1)) * t.ppf(0.975, groups - 1) / norm.ppf(0.975)
        ends = (value + wide * (end - value) for end in difference.interval)
        assert (v.difference, v.low, v.high) == pytest.approx((value, *ends), abs=1e-12)


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    cells = [cell("good", "drawn_0", guesses("drawn_0", 0.95))] + [
        cell("random:good", "drawn_0", guesses("drawn_0", 0.6, seed=s), encoder=f"random:good@{s}")
        for s in range(3)
    ]
    good, random = standings(cells, resamples=400).rows
    scores_MNK = np.stack([c.scores_NK for c in cells[1:]])
    mean = scored.estimate(
        cells[0].labels_N, scores_MNK, cells[0].groups_N, metric=METRICS[0], seed=0, resamples=400
    )
    assert (random.value, random.low, random.high) == pytest.approx((mean.value, mean.low, mean.high))
    assert random.n_models == 3 and good.n_models == 1
    values_S, resampled_RS = scored.bootstrap(
        cells[0].labels_N, scores_MNK, cells[0].groups_N, metric=METRICS[0], seed=0, resamples=400
    )
    wanted = over_seeds(values_S, resampled_RS, groups=random.n_groups)
    assert (random.seed_sd, random.total_low, random.total_high) == pytest.approx(
        (wanted.seed_sd, wanted.total_low, wanted.total_high)
    )


def test_a_difference_from_seeds_that_lie_apart_is_not_called() -> None:
    task = "drawn_0"
    good = cell("good", task, guesses(task, 0.97))
    near, apart = (
        [
            cell("random:x", task, guesses(task, right, seed=s), encoder=f"random:x@{s}")
            for s, right in enumerate(rights)
        ]
        for rights in ((0.7, 0.7, 0.7), (0.4, 0.7, 1.0))
    )
    [sure] = standings([good, *near], resamples=2000).verdicts
    [unsure] = standings([good, *apart], resamples=2000).verdicts
    assert sure.outcome == "good" and unsure.outcome == NO_WINNER
    assert unsure.low < 0 < unsure.high and unsure.p > 0.05


def test_an_interval_over_seeds_ends_within_the_metric() -> None:
    shares = ((0, 0.99), (1, 0.6))  # one initialisation close to the end, one far from it
    cells = [
        cell("random:good", "drawn_0", guesses("drawn_0", share, seed=s), encoder=f"random:good@{s}")
        for s, share in shares
    ]
    for metric in ("balanced_accuracy", "roc_auc_ovr", "log_loss"):
        (row,) = standings(cells, metric=metric, resamples=400).rows
        low, high = scored.bounds(metric)
        assert row.seed_sd and row.total_low is not None and row.total_high is not None
        assert low <= row.total_low < row.value < row.total_high <= high
        assert (row.total_high == 1.0) == (metric != "log_loss")


def test_fits_of_one_initialisation_are_no_further_initialisations() -> None:
    """Random weights fine-tuned with two seeds each: what varies are the weights, each the mean of its fits."""
    cells = [
        cell("random:x", "drawn_0", guesses("drawn_0", right, seed=s), encoder=f"random:x@{e}", seed=s)
        for e, right in enumerate((0.6, 0.9))
        for s in range(2)
    ]
    (row,) = standings(cells, resamples=200).rows
    values = [
        scored.estimate(c.labels_N, c.scores_NK, c.groups_N, metric=METRICS[0], resamples=200).value
        for c in cells
    ]
    assert row.seed_sd == pytest.approx(np.std([np.mean(values[:2]), np.mean(values[2:])], ddof=1))
    (single,) = standings([c for c in cells if c.encoder == "random:x@1"], resamples=200).rows
    assert single.seed_sd == pytest.approx(np.std(values[2:], ddof=1))


def test_what_a_model_was_trained_on_is_told_and_not_ranked() -> None:
    cells = side_by_side()
    cells[0] = dataclasses.replace(cells[0], seen=True)
    cells[3] = dataclasses.replace(cells[3], seen=None)
    found = standings(cells, resamples=500)
    assert [r.seen for r in found.rows[:4]] == ["trained on it", "new", "new", "unknown"]
    assert found.clean == TASKS[1:]
    clean = standings([c for c in cells if c.task != TASKS[0]], resamples=500)
    assert found.podium is not None and found.podium == clean.podium
    assert {v.task for v in found.verdicts} == set(TASKS)
    told = {v.task: (v.outcome, v.p_holm) for v in found.verdicts}
    assert told[TASKS[0]] == (NOT_CALLED, None) and told[TASKS[1]][0] == "good"
    assert "not called (trained on it)" in table(found)


def test_five_groups_are_told_and_not_called() -> None:
    cells = [keep(c, groups=5) if c.task == TASKS[0] else c for c in side_by_side(TASKS[:2])]
    few, enough = standings(cells, resamples=2000).verdicts
    assert (few.outcome, few.p_holm, enough.outcome) == (NOT_CALLED, None, "good")
    assert few.low > 0, "its interval alone would have called it"
    assert "not called (5 groups, 6 are the fewest)" in table(standings(cells, resamples=2000))


def keep(c: Cell, *, groups: int) -> Cell:
    """The first groups of a cell."""
    rows = np.isin(c.groups_N, np.unique(c.groups_N)[:groups])
    fold_N = None if c.fold_N is None else c.fold_N[rows]
    return dataclasses.replace(
        c, labels_N=c.labels_N[rows], scores_NK=c.scores_NK[rows], groups_N=c.groups_N[rows], fold_N=fold_N
    )


def test_fewer_than_six_lineages_crown_nobody() -> None:
    enough = standings(side_by_side(), resamples=2000)
    assert enough.lineages == FEWEST
    assert enough.podium is not None and enough.podium.outcome == "good"
    few = standings(side_by_side(TASKS[1:]), resamples=2000)
    shared = [
        dataclasses.replace(c, lineage="one" if c.task in TASKS[:2] else c.lineage) for c in side_by_side()
    ]
    for found in (few, standings(shared, resamples=2000)):
        assert found.lineages == FEWEST - 1 and found.podium is not None
        assert found.podium.outcome == NO_WINNER
        assert {v.outcome for v in found.podium.verdicts} == {NO_WINNER}
        assert found.podium.standings[0].model == "good"


def test_one_model_or_one_clean_task_has_no_ranks() -> None:
    assert standings([c for c in side_by_side() if c.model == "good"], resamples=200).podium is None
    assert standings(side_by_side(TASKS[:1]), resamples=200).podium is None


def test_a_metric_that_is_undefined_on_one_task_leaves_the_others() -> None:
    cells = side_by_side(TASKS[:3])
    cells[:2] = [dataclasses.replace(c, labels_N=np.zeros_like(c.labels_N)) for c in cells[:2]]
    found = standings(cells, resamples=400, undefined={"elsewhere": "why"})
    assert set(found.undefined) == {TASKS[0], "elsewhere"}
    assert "HZ-I62" in found.undefined[TASKS[0]]
    assert {r.task for r in found.rows} == set(TASKS[1:3]) == {v.task for v in found.verdicts}


def test_i75_a_model_without_a_task_that_others_have_is_refused() -> None:
    with pytest.raises(UsageError, match="HZ-I75") as caught:
        standings(side_by_side()[:-1])
    assert f"poor on {TASKS[-1]}" in caught.value.got


def test_i65_calibration_of_scores_is_not_offered_and_refused() -> None:
    cells = side_by_side(TASKS[:1])
    assert offered(cells) == [*METRICS, CALIBRATION]
    cells[1] = dataclasses.replace(cells[1], probabilities=False)
    assert offered(cells) == list(METRICS) and offered([]) == []
    with pytest.raises(UsageError, match="HZ-I65"):
        standings(cells, metric=CALIBRATION)


def test_lower_is_better_where_it_is() -> None:
    certain = [
        cell(model, task, np.where(guesses(task, right, seed=i) > 0.5, 1.0, 0.0))
        for i, task in enumerate(TASKS)
        for model, right in (("good", 0.97), ("poor", 0.5))
    ]
    found = standings(certain, metric=CALIBRATION, resamples=2000)
    assert not found.higher_is_better
    assert found.podium is not None and found.podium.outcome == "good"
    assert all(v.difference < 0 and v.outcome == "good" for v in found.verdicts)


def test_shots_of_several_seeds_are_averaged() -> None:
    def with_shots(model: str, seed: int, mean: float) -> Cell:
        told = [{"shots": 1, "mean": mean, "sd": 0.1, "percentiles": [mean - 0.2, mean, mean + 0.2]}]
        return cell(
            model, "drawn_0", guesses("drawn_0", 0.8), encoder=f"{model}@{seed}", facts={"shots": told}
        )

    cells = [with_shots("random:x", 0, 0.5), with_shots("random:x", 1, 0.7), with_shots("y", 0, 0.9)]
    found = few_shots(cells)
    assert [(s.model, s.shots) for s in found] == [("random:x", 1), ("y", 1)]
    assert (found[0].mean, found[0].low, found[0].high) == pytest.approx((0.6, 0.4, 0.8))
    assert standings(cells, resamples=200).shots == found
    assert standings(cells, metric=METRICS[1], resamples=200).shots == ()
