"""Choosing pretraining settings: from file to report at smoke size, what is chosen, what test rows are kept out of, and refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from histozoo.errors import UsageError
from histozoo.evaluate.compare import cells
from histozoo.studies import folder, run, selecting, selection, selection_words
from histozoo.studies.selecting import Scores
from histozoo.studies.settings import Selection
from histozoo.studies.study_file import read
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, write_drawn
from tests.fakes.tiles import write_table

STUDY = Path(__file__).parents[1] / "experiments" / "studies" / "selection.toml"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Drawn tasks below `data` with groups enough for three parts, and an experiment on them."""
    torch.set_num_threads(1)
    path = write_drawn(tmp_path)
    for seed, task in enumerate(DRAWN.values()):
        write_table(tmp_path / "data" / task.folder, 20, task.classes, px=40, groups=10, seed=seed)
    yield path
    for name in DRAWN:
        TASKS.pop(name)


def changed(place: Path, **more: Any) -> dict[str, Any]:
    return {
        "experiment": str(place),
        "candidates": {"plain": [], "slow": ["lr=1e-5"]},
        "lineages": ["first", "second"],
        "common": ["steps=4"],
        "protocol": "knn",
        "resamples": 200,
    } | more


def measure(place: Path, out: str = "out", *, stop_at: str = "", **more: Any) -> Path:
    def tell(line: str) -> None:
        if stop_at and stop_at in line:
            raise KeyboardInterrupt

    root = place.parent
    study = read(STUDY, preset="small", changed=changed(place, **more))
    bench = folder.Bench(out=root / out, data_root=root / "data", cache=root / "cache", tell=tell)
    run.run(study, bench, command="histozoo study selection.toml")
    return bench.out


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "results.csv").read_text().splitlines()))


def test_a_study_that_was_killed_goes_on_and_test_rows_are_scored_for_the_chosen_alone(place: Path) -> None:
    whole = measure(place, "whole")
    with pytest.raises(KeyboardInterrupt):
        measure(place, stop_at="slow, seed 0: pretraining without second")
    done = [p.parent for p in (place.parent / "out/runs").glob("*/final/DONE.json")]
    assert len(done) == 3 and not (place.parent / "out/DONE.json").exists()
    out = measure(place)
    assert (out / "results.csv").read_text() == (whole / "results.csv").read_text()

    found = rows(out)
    validated = {(r["task"], r["model"]) for r in found if r["setting"] == "val" and r["lineage"]}
    assert validated == {(t, c) for t in DRAWN for c in ("plain", "slow")}
    (over_all,) = {r["task"] for r in found if not r["lineage"]}
    by = {r["model"]: r for r in found if r["metric"] == "mean_rank_by_balanced_accuracy"}
    assert over_all == f"mean over {len(DRAWN)} tasks" and sum(float(r["value"]) for r in by.values()) == 3
    (lead,) = [r for r in found if r["metric"] == "lead_in_mean_rank"]
    assert float(lead["value"]) == float(by[lead["minus"]]["value"]) - float(by[lead["model"]]["value"]) >= 0
    assert lead["outcome"] == "not called" and lead["n_groups"] == "2"
    told = json.loads((out / "results.json").read_text())
    tested = {(r["task"], r["model"]) for r in found if r["setting"] == "test"}
    for name, task in DRAWN.items():
        chosen = told["chosen"][task.lineage]
        models = {f"{selection.CHOSEN} ({chosen})", selection.RANDOM, *({"plain"} - {chosen})}
        assert {m for t, m in tested if t == name} == models
    facts = [cells.read(p)[1] for p in (out / "cells").iterdir()]
    assert {f["part"] for f in facts} == {"val", "test"}
    assert sum(f["part"] == "test" for f in facts) == len(tested)

    text = (out / "report.md").read_text()
    assert all(s in text for s in told["follows"]) and "lineages are too few to tell" in text
    assert {r["seen"] for r in found} == {"new"}


def test_each_task_s_setting_is_chosen_by_the_other_lineages() -> None:
    targets = {k: [SimpleNamespace(name=f"{k}{i}") for i in range(n)] for k, n in (("x", 1), ("y", 2))}
    t: Any = SimpleNamespace(targets=targets, candidates={"a": {}, "b": {}, "c": {}})
    values = {"x0": (0.9, 0.1, 0.2), "y0": (0.1, 0.9, 0.5), "y1": (0.1, 0.3, 0.9)}
    validated = {
        name: Scores(values_MS=np.array(v)[:, None], resampled_RM=np.tile(v, (10, 1)))
        for name, v in values.items()
    }
    assert selection._chosen(t, validated, without="y") == "a"
    # Ranks in y: a 3 3, b 1 2, c 2 1: b and c are equal, and the first in the file is taken.
    assert selection._chosen(t, validated, without="x") == "b"
    # With x: a 7/3, b 2, c 5/3. Mean scores would have said b, by a hair.
    assert selection._chosen(t, validated) == "c"


@pytest.mark.parametrize(("apart", "outcome"), [(0.3, "b"), (0.0, "no winner")])
def test_a_setting_ranks_better_only_where_the_interval_over_lineages_says_so(
    apart: float, outcome: str
) -> None:
    rng = np.random.default_rng(0)
    targets = {
        f"l{i}": [SimpleNamespace(name=f"l{i}{j}", rows=lambda part: range(9)) for j in range(1 + i % 2)]
        for i in range(8)
    }
    t: Any = SimpleNamespace(
        targets=targets,
        candidates={"a": {}, "b": {}, "c": {}},
        settings=SimpleNamespace(seed=0),
        all_targets=lambda: [x for several in targets.values() for x in several],
    )
    validated = {}
    for x in t.all_targets():
        values_C = np.array([0.5, 0.5 + apart, 0.5]) + 0.02 * rng.standard_normal(3)
        drawn_RC = values_C + 0.02 * rng.standard_normal((3_000, 3))
        validated[x.name] = Scores(values_MS=values_C[:, None], resampled_RM=drawn_RC)
    lead = selection._pairs(t, validated)[0]
    assert lead.outcome == outcome and lead.family == 3 and lead.n_groups == 8
    said = selection._over_all(t, validated)
    assert (f"{lead.first} is better" in said) == (
        outcome == "b"
    ) and "Holm's correction over 3 pairs" in said


def test_settings_that_rank_alike_are_said_to_share_the_place() -> None:
    targets = {f"l{i}": [SimpleNamespace(name=f"l{i}", rows=lambda part: range(9))] for i in range(6)}
    t: Any = SimpleNamespace(
        targets=targets,
        candidates={"a": {}, "b": {}, "c": {}},
        settings=SimpleNamespace(seed=0),
        all_targets=lambda: [x for several in targets.values() for x in several],
    )
    turns = [(0.9, 0.8, 0.1), (0.8, 0.9, 0.1)]
    validated = {
        f"l{i}": Scores(
            values_MS=np.array(turns[i % 2])[:, None], resampled_RM=np.tile(turns[i % 2], (500, 1))
        )
        for i in range(6)
    }
    said = selection._over_all(t, validated)
    assert "a and b share the lowest mean rank on validation, 1.500; they lie +0.000 [" in said
    assert "no winner" in said


def test_a_classifier_that_calls_every_row_the_same_is_named() -> None:
    even, chance = np.full((50, 1), 0.7), np.full((50, 1), 0.5)
    names = SimpleNamespace(name="x", labelled=SimpleNamespace(classes=("p", "q")))
    found = Scores(values_MS=np.array([[0.7], [0.5]]), resampled_RM=np.concatenate([even, chance], 1))
    one = selecting.Tested(target=names, lineage="l", chosen="a", models=("chosen", "random"), scores=found)  # type: ignore[arg-type]
    (said,) = selection_words._one_class([one])
    assert "On x the classifier on random calls every row the same class" in said and "chosen" not in said


def test_labels_of_the_test_rows_change_nothing_that_is_chosen_by(place: Path) -> None:
    root = place.parent
    study = read(STUDY, preset="small", changed=changed(place))
    assert isinstance(study.settings, Selection)
    bench = folder.Bench(out=root / "out", data_root=root / "data", cache=root / "cache")
    t = selecting.trial(study.settings, bench)
    models = [selecting.pretrained(t, c, "first") for c in t.candidates]
    [target] = t.targets["first"]
    before = selecting.scores(t, target, "val", models)
    labels_N = target.labelled.labels_N.copy()
    labels_N[target.rows("test")] = 1 - labels_N[target.rows("test")]
    other = dataclasses.replace(target.labelled, labels_N=labels_N, fingerprint="f" * 64)
    after = selecting.scores(t, dataclasses.replace(target, labelled=other), "val", models)
    np.testing.assert_array_equal(before.values_MS, after.values_MS)
    groups = [set(target.labelled.groups_N[target.rows(part)]) for part in ("train", "val", "test")]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"candidates": {"plain": []}}, "HZ-U43", "too few candidates"),
        ({"lineages": ["first"]}, "HZ-U43", "too few lineages"),
        ({"lineages": ["first", "third"]}, "HZ-U44", "some of first, second"),
        ({"candidates": {"plain": [], "Slow one": ["lr=1e-5"]}}, "HZ-U43", "lower case letters and digits"),
        ({"candidates": {"plain": [], "other": ["tile_px=48"]}}, "HZ-U43", "tile_px"),
        ({"candidates": {"plain": [], "slow": ["rl=1e-5"]}}, "HZ-U42", "rl"),
        ({"candidates": {"plain": [], "slow": ["lr"]}}, "HZ-U66", "key=value"),
        ({"protocol": "guess"}, "HZ-U43", "linear_svm"),
        ({"experiment": "nowhere.toml"}, "HZ-U41", "nowhere.toml"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused_before_anything_is_trained(
    place: Path, more: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        measure(place, **more)
    assert caught.value.code == code and words in str(caught.value)
    assert not (place.parent / "out" / "runs").exists()


def test_a_class_in_one_group_of_the_rows_scored_is_refused_before_anything_is_trained(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = selecting.make_split

    def thinned(labels_N: Any, groups: list[str], **how: Any) -> Any:
        """Leaves one group of each class but the first in the test rows: fewer than half of the resamples hold all of three classes."""
        split = inner(labels_N, groups, **how)
        first = {k: groups[next(i for i in split.test if labels_N[i] == k)] for k in np.unique(labels_N)}
        test = [i for i in split.test if labels_N[i] == 0 or groups[i] == first[labels_N[i]]]
        return dataclasses.replace(split, test=np.array(test))

    monkeypatch.setattr(selecting, "make_split", thinned)
    with pytest.raises(UsageError) as caught:
        measure(place)
    assert caught.value.code == "HZ-I62" and caught.value.where == "drawn_stroma"
    assert "test rows" in str(caught.value) and "classes in 2, 1, 1 of 4 groups" in str(caught.value)
    assert not (place.parent / "out" / "runs").exists()


def test_a_tile_in_two_lineages_is_refused(place: Path) -> None:
    images = [place.parent / "data" / name / "images" for name in DRAWN]
    first, second = (sorted(folder.iterdir())[0] for folder in images)
    second.write_bytes(first.read_bytes())
    with pytest.raises(UsageError, match="HZ-E38"):
        measure(place)
