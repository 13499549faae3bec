"""The study: cells that are trained once, kills that are gone on from, and differences that are told from chance or not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.segment import cell, curves, report, study
from histozoo.evaluate.segment.colours import Colours
from histozoo.evaluate.segment.model import Start, start
from histozoo.evaluate.segment.pictures import Pictures
from histozoo.evaluate.segment.study import Design
from histozoo.evaluate.segment.train import Training
from tests.fakes import masks, zoo

DESIGN = Design(
    sizes=(1, 2, 4),
    seeds=(0, 1),
    metrics=("dice", "pq"),
    test=0.5,
    training=Training(steps=2, px=32, batch_size=2, decoder=(8, 8, 8, 8, 8), warmup_steps=1),
)
HOME, AWAY = masks.drawn("home", groups=10), masks.drawn("away", groups=4, first=100)


def starts(*names: str, lineages: frozenset[str] = frozenset()) -> list[Start]:
    mean, std = (0.5,) * 3, (0.2,) * 3
    return [
        Start(name=n, architecture="test_resnet", tensors=None, mean=mean, std=std, lineages=lineages)
        for n in names
    ]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Puts a stand-in for training: `good` reaches 0.9 from one group on, `random` climbs to it; tells what was trained."""
    asked: list[tuple[str, int, int]] = []

    def train(begin: Start, pictures: Pictures, rows: Any, *, run: Path, seed: int, **_: Any) -> Any:
        asked.append((begin.name, len(set(pictures.groups_N[rows])), seed))
        return asked[-1]

    def scores_of(recipe: Any, test: Pictures, design: Design) -> dict[str, list[float]]:
        name, size, seed = recipe
        level = 0.9 if name == "good" else {1: 0.5, 2: 0.7, 4: 0.9}[size]
        random = np.random.default_rng([seed, size, name == "good", len(test)])
        return {
            m: (level + 0.02 * random.standard_normal(len(test))).clip(0, 1).tolist() for m in design.metrics
        }

    monkeypatch.setattr(cell, "train", train)
    monkeypatch.setattr(cell, "scores_of", scores_of)
    return asked


def run(out: Path, *names: str, **options: Any) -> study.Scores:
    design = options.pop("design", DESIGN)
    return study.run(
        starts(*(names or ("good", "random"))), HOME, out=out, design=design, others=(AWAY,), **options
    )


# -- cells


def test_every_cell_is_trained_once_on_the_same_pictures_for_every_initialisation(
    tmp_path: Path, trained: list[Any]
) -> None:
    found = run(tmp_path)
    assert sorted(trained) == sorted(
        (n, size, s) for n in ("good", "random") for size in DESIGN.sizes for s in DESIGN.seeds
    )
    again = run(tmp_path)
    assert len(trained) == 12 and again.cells == found.cells
    files = {
        (size, seed): {
            tuple(json.loads((tmp_path / f"cells/{size:04d}-{n}-{seed}.json").read_text())["files"])
            for n in ("good", "random")
        }
        for size in DESIGN.sizes
        for seed in DESIGN.seeds
    }
    assert all(len(chosen) == 1 for chosen in files.values()) and files[2, 0] != files[2, 1]
    assert set(*files[1, 0]) < set(*files[2, 0]) < set(*files[4, 0])
    learnt = {f for chosen in files.values() for f in next(iter(chosen))}
    assert not {HOME.groups_N[HOME.files.index(f)] for f in learnt} & set(found.groups["home"])


def test_a_study_that_stopped_half_way_goes_on_where_it_was(
    tmp_path: Path, trained: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole")
    fake: Callable[..., Any] = cell.train
    trained.clear()

    def stopping(*args: Any, **options: Any) -> Any:
        if len(trained) == 5:
            raise KeyboardInterrupt
        return fake(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cell, "train", stopping)
        run(tmp_path / "killed")
    assert len(list((tmp_path / "killed/cells").glob("*.json"))) == 5
    assert run(tmp_path / "killed").cells == whole.cells and len(trained) == 12


def test_an_initialisation_may_join_a_study_and_none_may_become_another(
    tmp_path: Path, trained: list[Any]
) -> None:
    first = run(tmp_path)
    more = run(tmp_path, "good", "other", "random")
    assert len(trained) == 18 and {name for name, *_ in trained[12:]} == {"other"}
    assert first.cells.items() <= more.cells.items()
    assert run(tmp_path).cells == first.cells and len(trained) == 18
    changed = [dataclasses.replace(s, mean=(0.1,) * 3) for s in starts("other")]
    with pytest.raises(IntegrityError, match="HZ-F44"):
        study.run([*changed, *starts("random")], HOME, out=tmp_path, design=DESIGN, others=(AWAY,))


def test_a_cell_that_was_changed_and_a_study_that_is_another_are_refused(
    tmp_path: Path, trained: list[Any]
) -> None:
    run(tmp_path)
    path = tmp_path / "cells/0002-good-1.json"
    text = path.read_text()
    path.write_text(text.replace("0.9", "1.0", 1))
    with pytest.raises(IntegrityError, match="HZ-U35"):
        run(tmp_path)
    path.write_text(text)
    with pytest.raises(IntegrityError, match="HZ-F44"):
        run(tmp_path, design=dataclasses.replace(DESIGN, least_px=3))
    path.unlink()
    run(tmp_path)
    assert len(trained) == 13


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("HZ-I64", lambda: study.run(starts("a", "a"), HOME, out="never", design=DESIGN)),
        ("HZ-I64", lambda: study.run(starts("a"), HOME, out="never", design=DESIGN, others=(HOME,))),
        (
            "HZ-U43",
            lambda: study.run(
                starts("a"), HOME, out="never", design=dataclasses.replace(DESIGN, metrics=("auc",))
            ),
        ),
        (
            "HZ-U43 the windows do not cover",
            lambda: study.run(
                starts("a"), HOME, out="never", design=dataclasses.replace(DESIGN, stride=1000)
            ),
        ),
        (
            "HZ-I63",
            lambda: study.run(
                starts("a"), HOME, out="never", design=dataclasses.replace(DESIGN, sizes=(1, 9))
            ),
        ),
        (
            "HZ-E38",
            lambda: study.run(
                starts("a"), HOME, out="never", design=DESIGN, others=(masks.drawn("copy", groups=10),)
            ),
        ),
        (
            r"(?s)HZ-I70.*next: .*one architecture",
            lambda: study.run(
                [*starts("a"), dataclasses.replace(starts("b")[0], architecture="other")],
                HOME,
                out="never",
                design=DESIGN,
            ),
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    code: str, change: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=code):
        change()
    assert list(tmp_path.iterdir()) == []


def test_perfect_masks_score_one_and_shuffled_ones_what_chance_gives() -> None:
    truth = {image.tobytes(): mask for image, mask in zip(HOME.images, HOME.masks, strict=True)}
    random = np.random.default_rng(0)
    perfect = cell.scores_by(lambda image: (truth[image.tobytes()] > 0) * 0.9, HOME, DESIGN)
    assert set(perfect["dice"]) == set(perfect["pq"]) == {1.0}

    def shuffled(image: np.ndarray) -> np.ndarray:
        mask = truth[image.tobytes()] > 0
        return random.permutation(mask.ravel()).reshape(mask.shape).astype(np.float32)

    chance = cell.scores_by(shuffled, HOME, dataclasses.replace(DESIGN, least_px=1))
    # Dice of two independent masks of share p is p.
    assert np.mean(chance["dice"]) == pytest.approx(np.mean([(m > 0).mean() for m in HOME.masks]), abs=0.02)
    assert np.mean(chance["pq"]) < 0.02


def test_one_real_cell_from_pictures_to_results(tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    design = dataclasses.replace(DESIGN, sizes=(1,), seeds=(0,))
    model = start(zoo.random_model("test_resnet"), architecture="test_resnet", name="weights / v1")
    scores = study.run([model], HOME, out=tmp_path, design=design, others=(AWAY,))
    assert [p.suffix for p in (tmp_path / "cells").iterdir()] == [".json"]  # the run folder is gone
    values = scores.cells[1, "weights / v1", 0]
    assert len(values["away"]["dice"]) == 8 and len(values["home"]["dice"]) == len(scores.groups["home"])
    assert all(0 <= v <= 1 for metrics in values.values() for found in metrics.values() for v in found)
    assert report.summarise(scores, baseline="weights / v1", resamples=100)["smallest"] == []


# -- what it says


def test_the_smallest_size_is_where_the_difference_can_be_told_from_chance(
    tmp_path: Path, trained: list[Any]
) -> None:
    found = report.summarise(run(tmp_path), resamples=2_000)
    assert {(s["test_set"], s["metric"]): s["excludes_zero"] for s in found["smallest"]} == {
        (t, m): 1 for t in ("home", "away") for m in ("dice", "pq")
    }
    told = {(d["test_set"], d["metric"], d["size"]): d for d in found["differences"]}
    assert told["home", "dice", 1]["value"] == pytest.approx(0.4, abs=0.02)
    assert told["home", "dice", 2]["excludes_zero"] and told["home", "dice", 2]["excludes_zero_with_seeds"]
    assert abs(told["home", "dice", 4]["value"]) < 0.03
    narrow, wide = told["home", "dice", 1]["interval"], told["home", "dice", 1]["adjusted"]
    assert wide[0] <= narrow[0] <= told["home", "dice", 1]["value"] <= narrow[1] <= wide[1]


def test_no_winner_is_an_outcome() -> None:
    random = np.random.default_rng(0)
    groups_N = np.repeat(np.arange(12), 3).astype(str)
    same = {size: random.random((3, 36)) for size in (1, 2)}
    none = curves.differences(same, same, groups_N)
    assert [curves.smallest(none, by=rule) for rule in report.RULES] == [None] * 3
    assert none[0].estimate.value == 0.0 and none[0].estimate.interval == (0.0, 0.0)


def test_every_group_counts_once_however_many_pictures_it_has() -> None:
    groups_N = np.array(["a"] * 9 + ["b"])
    values_N = np.array([1.0] * 9 + [0.0])
    found = curves.estimate(values_N, groups_N, resamples=4_000)
    assert found.value == 0.5 and found.interval == (0.0, 1.0) and (found.n, found.n_groups) == (10, 2)


def test_intervals_are_those_of_drawing_groups_one_by_one() -> None:
    random = np.random.default_rng(1)
    groups_N = np.sort(random.integers(0, 9, 60)).astype(str)
    values_SN = random.random((2, 60))
    names = np.unique(groups_N)
    means = np.array([values_SN[:, groups_N == g].mean() for g in names])
    drawn = means[random.integers(len(names), size=(40_000, len(names)))].mean(1)
    found = curves.estimate(values_SN, groups_N, resamples=40_000)
    assert found.value == pytest.approx(means.mean())
    assert found.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.004)


@pytest.mark.parametrize(
    ("code", "values", "groups"),
    [
        ("HZ-I63", np.zeros(4), np.array(["a"] * 4)),
        ("HZ-I64", np.zeros(4), np.array(["a", "b"])),
        ("HZ-I62", np.array([0.0, np.nan]), np.array(["a", "b"])),
    ],
)
def test_scores_without_an_interval_are_refused(code: str, values: np.ndarray, groups: np.ndarray) -> None:
    with pytest.raises(UsageError, match=code):
        curves.estimate(values, groups)


def test_curves_of_other_sizes_or_seeds_are_refused() -> None:
    groups_N, some = np.array(["a", "b"]), np.zeros((2, 2))
    with pytest.raises(UsageError, match="HZ-I64"):
        curves.differences({1: some}, {2: some}, groups_N)
    with pytest.raises(UsageError, match="HZ-I64"):
        curves.differences({1: some}, {1: some[:1]}, groups_N)


# -- the colour histogram


def coloured(name: str, *pictures: tuple[list[list[int]], list[list[int]]]) -> Pictures:
    """Returns pictures of grey levels (a bin is 32 levels wide) with masks, one group each."""
    return Pictures(
        name=name,
        lineage=name,
        files=tuple(f"{name}{i}.png" for i in range(len(pictures))),
        images=tuple(np.repeat(np.array(p, dtype=np.uint8)[..., None], 3, -1) for p, _ in pictures),
        masks=tuple(np.array(m) for _, m in pictures),
        groups_N=np.array([f"{name}{i}" for i in range(len(pictures))]),
    )


def test_a_colour_has_the_share_of_foreground_of_the_training_pixels_around_it() -> None:
    one = ([[0, 31, 40], [5, 250, 40]], [[1, 1, 0], [0, 2, 0]])
    two = ([[10, 45]], [[3, 0]])
    pictures = coloured("c", one, two)
    probability = Colours().fit(pictures)
    levels = np.concatenate([i[..., 0].ravel() for i in pictures.images]).astype(int) // 8
    hits = np.concatenate([m.ravel() for m in pictures.masks]) > 0
    for asked in (0, 20, 40, 70, 255):
        apart = np.abs(asked // 8 - levels)
        weights = np.where(
            apart <= 6, np.exp(-3 * apart**2 / (2 * 1.5**2)), 0
        )  # three channels alike, cut off at four sigma
        weights /= np.exp(-(np.arange(-6, 7) ** 2) / (2 * 1.5**2)).sum() ** 3
        expected = (weights[hits].sum() + 1e-6 * hits.mean()) / (weights.sum() + 1e-6)
        assert probability(np.full((1, 1, 3), asked, dtype=np.uint8)) == pytest.approx(expected, abs=1e-9), (
            asked
        )
    assert probability(np.full((1, 1, 3), 160, dtype=np.uint8)) == pytest.approx(
        0.5
    )  # nothing near: the share of all


def test_the_colour_histogram_stands_among_the_initialisations_and_learns_from_their_pictures(
    tmp_path: Path, trained: list[Any]
) -> None:
    both = [*starts("good", "random"), Colours()]
    found = study.run(both, HOME, out=tmp_path, design=DESIGN, others=(AWAY,))
    assert not [name for name, *_ in trained if name == Colours().name] and len(trained) == 12
    again = study.run(both, HOME, out=tmp_path, design=DESIGN, others=(AWAY,))
    assert again.cells == found.cells
    files = json.loads((tmp_path / "cells/0002-good-1.json").read_text())["files"]
    mine = json.loads((tmp_path / f"cells/0002-{cell._word(Colours().name)}-1.json").read_text())
    assert mine["files"] == files
    probability = Colours().fit(HOME.take([HOME.files.index(f) for f in files]))
    assert found.cells[2, Colours().name, 1]["away"] == cell.scores_by(probability, AWAY, DESIGN)
    rows = [v for v in report.summarise(found, resamples=200)["values"] if v["start"] == Colours().name]
    assert len(rows) == 2 * 2 * 3 and not any(v["seen"] for v in rows)


def test_colours_are_perfect_where_colours_decide_and_chance_where_they_do_not() -> None:
    random = np.random.default_rng(0)
    masks_ = [(random.random((24, 24)) < 0.5).astype(int) for _ in range(4)]
    told = coloured("told", *((np.where(m, 200, 90).tolist(), m.tolist()) for m in masks_))
    blind = coloured("blind", *((random.integers(0, 256, m.shape).tolist(), m.tolist()) for m in masks_))
    design = dataclasses.replace(DESIGN, metrics=("dice",), least_px=1)
    for pictures, low, high in ((told, 1.0, 1.0), (blind, 0.3, 0.65)):
        found = cell.scores_by(Colours().fit(pictures.take([0, 1])), pictures.take([2, 3]), design)
        assert all(low <= v <= high for v in found["dice"]), found
