"""What is put onto an entry: clean rows alone, in the place of earlier ones, and the card says them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from histozoo import bundle, card, registry
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import scored
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.record import folders, record, rows, target, twin
from histozoo.evaluate.compare.standings import METRICS, standings
from tests.fakes.compared import cell, guesses
from tests.fakes.zoo import as_zoo, edit, make_bundle

NAME = "test_resnet.multitask_tiny"
TWIN = f"random:{NAME}"


def cells(right: float = 0.95) -> list[Cell]:
    found = []
    for i, task in enumerate(("drawn_0", "drawn_1")):
        found.append(cell(NAME, task, guesses(task, right, seed=i)))
        found += [
            cell(TWIN, task, guesses(task, 0.5, seed=i + s), encoder=f"{TWIN}@{s}") for s in (20, 30, 40)
        ]
        found.append(cell("other", task, guesses(task, 0.7, seed=i)))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("dist"), NAME)


@pytest.fixture
def zoo(made: Path, tmp_path: Path) -> Path:
    (tmp_path / "zoo").mkdir()
    as_zoo(made, tmp_path / "zoo")
    card.write(tmp_path / "zoo", tmp_path / "cards")
    return tmp_path / "zoo"


def results(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(path.read_text())["histozoo"]["results"]
    return found


def test_the_model_its_twin_and_their_difference_are_the_values_of_scored() -> None:
    found = rows(cells(), NAME, TWIN, seed=2, resamples=300)
    assert len(found) == 2 * len(METRICS) * 3
    here = [c for c in cells() if c.task == "drawn_0"]
    labels_N, groups_N = here[0].labels_N, here[0].groups_N
    random_MNK = np.stack([c.scores_NK for c in here[1:4]])
    how = {"metric": "roc_auc_ovr", "seed": 2, "resamples": 300}
    wanted = {
        "trained": scored.estimate(labels_N, here[0].scores_NK, groups_N, **how),
        "random": scored.estimate(labels_N, random_MNK, groups_N, **how),
        "difference": scored.difference(labels_N, here[0].scores_NK, random_MNK, groups_N, **how),
    }
    for row in found:
        if (row.task, row.metric) == ("drawn_0", "roc_auc_ovr"):
            estimate = wanted.pop(row.subject)
            assert row.value == pytest.approx(estimate.value)
            if row.subject != "difference":
                assert row.interval == pytest.approx(estimate.interval)
                continue
            assert row.interval[0] < estimate.low < estimate.high < row.interval[1]
            [told, *_] = standings(here, metric="roc_auc_ovr", seed=2, resamples=300).verdicts
            assert row.interval == pytest.approx((told.low, told.high)), "the card says what the page says"
            assert (row.n, row.n_groups, row.left_out) == (estimate.n, estimate.n_groups, True)
    assert not wanted


@pytest.mark.parametrize("seen", [True, None])
def test_only_what_the_model_surely_never_saw_is_recorded(seen: bool | None) -> None:
    several = cells()
    several[0] = dataclasses.replace(several[0], seen=seen)
    assert {r.task for r in rows(several, NAME, TWIN, resamples=200)} == {"drawn_1"}


def test_another_models_random_weights_are_no_twin() -> None:
    assert {r.subject for r in rows(cells(), NAME, None, resamples=200)} == {"trained"}
    named = [dataclasses.replace(c, model="random:elsewhere") if c.model == TWIN else c for c in cells()]
    assert {r.subject for r in rows(named, NAME, TWIN, resamples=200)} == {"trained"}


def test_a_twin_of_one_seed_is_a_twin_where_that_of_several_is_not_there() -> None:
    assert twin(NAME, [NAME, f"{TWIN}@0", "random:other"]) == f"{TWIN}@0"
    assert twin(NAME, [NAME, f"{TWIN}@0", TWIN]) == TWIN
    assert twin(NAME, [NAME, f"{TWIN}_v2", "other"]) is None


def test_the_folder_of_cards_is_among_those_that_are_tried_first(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ZOO", zoo)
    (zoo.parent.parent / "model_cards").mkdir()
    monkeypatch.setattr(registry, "zoo_folders", lambda: [zoo])
    assert folders(NAME) == [zoo, zoo.parent.parent / "model_cards"]


def test_fine_tuning_seeds_make_one_row() -> None:
    fits = [
        cell(NAME, "drawn_0", guesses("drawn_0", 0.9, seed=s), seed=s, protocol="finetune_full@10%")
        for s in range(3)
    ]
    found = rows(fits, NAME, None, resamples=200)
    assert [(r.metric, r.protocol) for r in found] == [(m, "finetune_full@10%") for m in METRICS]
    by_seed = [
        scored.estimate(c.labels_N, c.scores_NK, c.groups_N, metric=METRICS[0], resamples=200).value
        for c in fits
    ]
    assert found[0].value == pytest.approx(np.mean(by_seed))


def test_a_task_without_an_interval_has_no_row() -> None:
    several = cells()
    several = [
        dataclasses.replace(c, labels_N=np.zeros_like(c.labels_N)) if c.task == "drawn_0" else c
        for c in several
    ]
    assert {r.task for r in rows(several, NAME, TWIN, resamples=200)} == {"drawn_1"}


def test_recorded_rows_stand_on_the_entry_and_its_card(zoo: Path) -> None:
    cards = zoo.parent / "cards"
    before = json.loads((zoo / f"{NAME}.json").read_text())
    path = record(NAME, rows(cells(), NAME, TWIN, resamples=200), zoo=zoo, cards=cards)
    assert path == zoo / f"{NAME}.json"
    after = json.loads(path.read_text())
    assert len(after["histozoo"].pop("results")) == 12 and before["histozoo"].pop("results") == []
    assert after == before
    assert card.check(zoo, cards) == []
    text = (cards / f"{NAME}.md").read_text()
    part = text.split("### Tasks it never saw")[1].split("\n## ")[0]
    assert "drawn\\_0" in part or "drawn_0" in part
    assert "Higher than random weights on 2 of 2 tasks of 2 lineages" in part
    assert part.count("knn, ") == 2 * len(METRICS)


def test_a_second_call_replaces_and_does_not_double(zoo: Path) -> None:
    cards = zoo.parent / "cards"
    record(NAME, rows(cells(), NAME, TWIN, resamples=200), zoo=zoo, cards=cards)
    first = results(zoo / f"{NAME}.json")
    again = rows([c for c in cells(0.6) if c.task == "drawn_1"], NAME, TWIN, resamples=200)
    found = results(record(NAME, again, zoo=zoo, cards=cards))
    keys = [tuple(r[k] for k in ("task", "protocol", "metric", "subject")) for r in found]
    assert len(keys) == len(set(keys)) == 12
    assert [r for r in found if r["task"] == "drawn_0"] == [r for r in first if r["task"] == "drawn_0"]
    assert [r for r in found if r["task"] == "drawn_1"] == [r.to_json() for r in again]
    assert card.check(zoo, cards) == []


def test_rows_of_other_protocols_and_halves_stay(zoo: Path) -> None:
    kept = {**rows(cells(), NAME, None, resamples=200)[0].to_json(), "left_out": False}
    edit(zoo / f"{NAME}.json", lambda raw: raw["histozoo"]["results"].append(kept))
    found = results(
        record(NAME, rows(cells(), NAME, None, resamples=200), zoo=zoo, cards=zoo.parent / "cards")
    )
    assert found[0] == kept and len(found) == 1 + 2 * len(METRICS)


def test_a_bundle_folder_and_its_card_are_changed(made: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(made, tmp_path / NAME))
    bundle.fresh_card(folder, write=True)
    assert record(str(folder), rows(cells(), NAME, TWIN, resamples=200)) == folder / "config.json"
    assert bundle.fresh_card(folder), "the card is what config.json renders to"
    assert "### Tasks it never saw" in (folder / "README.md").read_text()
    assert len(registry.read_entry(folder / "config.json").raw["histozoo"]["results"]) == 12


def test_entries_of_another_zoo_are_found_and_no_card_is_made_elsewhere(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", str(zoo))
    shipped = {p: p.read_bytes() for p in (registry.ZOO.parent.parent / "model_cards").glob("*")}
    assert record(NAME, rows(cells(), NAME, TWIN, resamples=200)) == zoo / f"{NAME}.json"
    assert shipped == {p: p.read_bytes() for p in (registry.ZOO.parent.parent / "model_cards").glob("*")}


def test_i75_what_has_no_entry_or_no_row_is_refused(zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HZ-I75"):
        target("timm:resnet18")
    with pytest.raises(UsageError, match="HZ-I75"):
        target(str(tmp_path))
    before = (zoo / f"{NAME}.json").read_bytes()
    with pytest.raises(UsageError, match="nothing to record"):
        record(NAME, [], zoo=zoo, cards=tmp_path)
    assert (zoo / f"{NAME}.json").read_bytes() == before


def test_g49_a_value_that_is_no_score_is_not_recorded(zoo: Path, tmp_path: Path) -> None:
    wrong = dataclasses.replace(rows(cells(), NAME, None, resamples=200)[0], value=float("nan"))
    before = (zoo / f"{NAME}.json").read_bytes()
    with pytest.raises(IntegrityError, match="HZ-G49"):
        record(NAME, [wrong], zoo=zoo, cards=tmp_path)
    assert (zoo / f"{NAME}.json").read_bytes() == before
