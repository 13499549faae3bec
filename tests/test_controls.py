"""Controls of every protocol: classes that can be told score 1, labels dealt out anew score chance, the seed decides every bit.

Each protocol is asked through what `histozoo evaluate` and `histozoo study` call. Where labels are dealt anew, every group can still be
recognised by its tiles, so a fold or split that divides a group scores far above chance; that it does is tested beside it. Not so for
segmentation, whose nets are too short trained to remember a picture: there the control finds masks that leak into pictures, not copies.

| protocol                                            | perfect | shuffled | seed  | where else                                           |
|-----------------------------------------------------|---------|----------|-------|------------------------------------------------------|
| `logistic` `linear_svm` `knn` `simpleshot`          |         |          |       | test_feature_protocols.py, all four                  |
| `finetune_full` `finetune_frozen_bn`                | here    | here     | here  | test_finetune.py                                     |
| `finetune_layer_decay` `finetune_lora`              | here    | here     | here  |                                                      |
| `finetune_head_only`, a share of the labels         | here    | here     | here  |                                                      |
| `slides_attention` `slides_gated`                   | here    | here     | here  | test_slide_crossval.py                               |
| `slides_mean` `slides_max`                          | here    | here     | here  |                                                      |
| `slides_topk_attention` `slides_topk_gated` (study) | here    | here     | here  | test_topk.py                                         |
| segmentation, encoder fine-tuned, frozen (study)    | here    | here     | here  | test_segment_study.py: scoring and colour histogram  |
| `cuts`                                              |         |          | here  | test_truncate.py                                     |
| `corruption`                                        |         |          | here  | test_corruptions.py, test_looks.py                   |
| `robustness_index`                                  |         |          | here  | test_robustness.py: 1, 0 and the index of chance     |
| `cka`, has no labels                                |         |          | here  | test_cka.py: 1 with itself, 0 of unrelated features  |
| `invariance`, has no labels                         |         |          | here  | test_looks.py, test_robustness.py                    |
"""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from histozoo.evaluate.compare import run as comparison
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.measure import measure
from histozoo.evaluate.compare.plan import FINETUNE, SLIDES, Plan, protocol_names
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.finetune import PRESETS, FinetuneSettings
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks import LOOKS
from histozoo.evaluate.looks.base import Setup
from histozoo.evaluate.segment import study as segmentation
from histozoo.evaluate.segment.model import start
from histozoo.evaluate.segment.pictures import Pictures
from histozoo.evaluate.segment.study import Design
from histozoo.evaluate.segment.train import Training
from histozoo.evaluate.slides import study as slides
from histozoo.evaluate.slides.bags import from_tiles
from histozoo.evaluate.slides.predict import predict
from histozoo.evaluate.slides.topk import Encoder, Tuning
from tests.fakes import controls
from tests.fakes.compared import install
from tests.test_looks import pixels, tiny

SHARE = 0.5
JOBS = [p for p in protocol_names() if p.startswith((FINETUNE, SLIDES))] + [f"{FINETUNE}full@{SHARE:.0%}"]
LITTLE = 1e-3
QUICK = FinetuneSettings(
    steps=60,
    batch_size=16,
    lrs=(5e-3,),
    warmup_steps=4,
    eval_every=30,
    rank=2,
    alpha=4.0,
    flip=False,  # groups are to be recognised by where things are
    rot90=False,
    area=(1.0, 1.0),
    colour=0.0,
    stain=0.0,
)

every_job = pytest.mark.parametrize("label", JOBS)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """The Trainer collects garbage after every training; what the other tests left need not be looked through each time."""
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a new folder at each call."""
    return tmp_path_factory.mktemp


def chance(right: int, n: int) -> float:
    """Returns how likely a guess by coin is as far from half as this, either way."""
    return float(binomtest(int(right), n).pvalue)


def votes(cell: Cell) -> tuple[int, int]:
    """Returns how many groups are called rightly by their tiles together, and of how many."""
    names, group_N = np.unique(cell.groups_N, return_inverse=True)
    scores_GK = np.zeros((len(names), 2))
    np.add.at(scores_GK, group_N, cell.scores_NK)
    label_G = np.zeros(len(names), dtype=np.int64)
    label_G[group_N] = cell.labels_N
    return int((scores_GK.argmax(1) == label_G).sum()), len(names)


def test_every_protocol_is_in_the_table() -> None:
    assert all(f"`{name}`" in str(__doc__) for name in protocol_names())
    assert set(protocol_names()) == {*FEATURE_PROTOCOLS, *JOBS[:-1], *LOOKS}


# -- fine-tuning and heads on slides, as `histozoo evaluate` measures them


def at_hand(patch: pytest.MonkeyPatch, task: LabelledTiles) -> None:
    """Puts the task where `histozoo evaluate` looks for it, and settings that take no time."""
    install(patch, {task.task: task})
    patch.setitem(PRESETS, "small", QUICK)
    patch.setitem(predict.__kwdefaults__, "folds", 2)
    patch.setitem(predict.__kwdefaults__, "epochs", 8)


def planned(out: Path, label: str, *, seeds: tuple[int, ...] = (0,)) -> Plan:
    protocol, _, share = label.partition("@")
    return Plan(
        columns={"drawn": [controls.encoder()]},
        tasks=["drawn"],
        protocols=[protocol],
        fractions=[SHARE if share else 1.0],
        seeds=seeds,
        out=out,
        cache=out / "cache",
        device="cpu",
    )


@cache
def measured(
    folder: Callable[[str], Path], label: str, *, seeds: tuple[int, ...] = (0,), **kind: Any
) -> tuple[Cell, ...]:
    """Measures a job on tiles of the kind that is asked for, a cell per seed; once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        at_hand(patch, controls.drawn(**kind))
        return measure(planned(folder("cells"), label, seeds=seeds)).cells


@every_job
def test_classes_that_can_be_told_score_one(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hand(monkeypatch, controls.drawn(groups=40))
    plan = planned(tmp_path, label)
    comparison.run(plan, resamples=100)
    told = json.loads((plan.out / "results.json").read_text())["standings"]
    rows = {s["metric"]: row for s in told for row in s["rows"]}
    for metric in ("balanced_accuracy", "roc_auc_ovr"):
        assert rows[metric]["protocol"] == label and rows[metric]["value"] == rows[metric]["low"] == 1
    assert rows["roc_auc_ovr"]["n_groups"] == (40 if label.startswith(SLIDES) else 8)


@every_job
def test_labels_dealt_anew_score_chance_and_far_above_it_where_groups_are_divided(
    label: str, folder: Callable[[str], Path]
) -> None:
    right, n = np.sum([votes(*measured(folder, label, groups=50, lot=lot)) for lot in (0, 1)], 0)
    assert chance(right, n) > LITTLE, (right, n)
    groups = 16 if label.startswith(SLIDES) else 48  # of these all are scored, of those a fifth
    right, n = votes(*measured(folder, label, groups=groups, lot=0, torn=True))
    assert right > n / 2 and chance(right, n) < LITTLE, (right, n)


@every_job
def test_the_seed_decides_every_bit(label: str, folder: Callable[[str], Path]) -> None:
    (one,) = measured(folder, label, groups=50, lot=0)
    again, other = measured(
        folder, label, groups=50, lot=0, seeds=(0, 1)
    )  # folds and split are those of the first
    for field in ("labels_N", "groups_N", "fold_N", "scores_NK"):
        np.testing.assert_array_equal(getattr(one, field), getattr(again, field))
    np.testing.assert_array_equal(one.fold_N, other.fold_N)
    assert not np.array_equal(one.scores_NK, other.scores_NK)


# -- fine-tuning on the tiles attended most, as the study of slides measures it


def tuned(out: Path, pooling: str, *, seed: int = 0, **kind: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the report of a study of one model, and the probabilities of its slides with their labels in front, `[S, 1 + K]`."""
    task = controls.drawn(**kind)
    encoder = Encoder(model=controls.net(), tiles_NHWC=task.tiles_NHWC, mean=controls.MEAN, std=controls.STD)
    bags = from_tiles(
        controls.encoder().features(task.tiles_NHWC),
        task.labels_N,
        task.groups_N,
        task=task.task,
        classes=task.classes,
    )
    plan = slides.Plan(
        poolings=(),
        seeds=(seed,),
        folds=2,
        epochs=6,
        standardise=True,
        tuning=Tuning(k=2, epochs=4, lr=1e-3, choosers=2),
        tuned_pooling=pooling,  # type: ignore[arg-type]
        resamples=100,
    )
    report = slides.study({"trained": bags}, out=out, plan=plan, left_out=True, encoders={"trained": encoder})
    folds = [json.loads(p.read_text())["result"] for p in sorted((out / "cells").rglob("*.json"))]
    slides_S = np.concatenate([fold["slides_S"] for fold in folds])
    p_SK = np.concatenate([fold["probabilities_SK"] for fold in folds])
    return report, np.column_stack([bags.labels_S[slides_S], p_SK])


def rightly(found: np.ndarray) -> tuple[int, int]:
    return int((found[:, 1:].argmax(1) == found[:, 0]).sum()), len(found)


every_tuning = pytest.mark.parametrize("pooling", ["attention", "gated"])


@every_tuning
def test_slides_that_can_be_told_score_one_after_tuning_on_their_tiles(tmp_path: Path, pooling: str) -> None:
    report, found = tuned(tmp_path, pooling, groups=16)
    values = {r["metric"]: r["value"] for r in report["results"] if not r["protocol"].endswith("before")}
    assert rightly(found) == (16, 16) and values["balanced_accuracy"] == values["roc_auc_ovr"] == 1


@every_tuning
def test_tuning_on_tiles_of_slides_that_mean_nothing_scores_chance_and_far_above_it_where_slides_are_divided(
    tmp_path: Path, pooling: str
) -> None:
    _, found = tuned(tmp_path / "whole", pooling, groups=50, lot=0)
    assert chance(*rightly(found)) > LITTLE, rightly(found)
    right, n = rightly(tuned(tmp_path / "torn", pooling, groups=16, lot=0, torn=True)[1])
    assert right > n / 2 and chance(right, n) < LITTLE, (right, n)


@every_tuning
def test_the_seed_decides_every_bit_of_a_tuning(tmp_path: Path, pooling: str) -> None:
    one, again, other = (
        tuned(tmp_path / name, pooling, groups=12, lot=0, seed=seed)[1]
        for name, seed in (("one", 0), ("again", 0), ("other", 1))
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


# -- segmentation, as its study measures it


def mosaic(groups: int = 10) -> Pictures:
    """Pictures of dark and light squares, two of each group; the dark ones, more than half of each picture, are the objects."""
    random = np.random.default_rng(0)
    dark_NHW = np.kron(random.random((2 * groups, 6, 7)) < 0.6, np.ones((8, 8))) > 0
    noise = random.integers(-15, 16, (*dark_NHW.shape, 3))
    images = np.where(dark_NHW[..., None], (90, 40, 120), (235, 200, 220)) + noise
    return Pictures(
        name="mosaic",
        lineage="mosaic",
        files=tuple(f"{i}.png" for i in range(2 * groups)),
        images=tuple(images.clip(0, 255).astype(np.uint8)),
        masks=tuple(dark_NHW.astype(np.int32)),
        groups_N=np.array([f"patient{i // 2}" for i in range(2 * groups)]),
    )


def dealt(pictures: Pictures) -> Pictures:
    """Gives every picture the mask of one of another group."""
    return dataclasses.replace(pictures, masks=pictures.masks[2:] + pictures.masks[:2])


def segmented(out: Path, mode: str, pictures: Pictures, *, seed: int = 0) -> segmentation.Scores:
    training = Training(
        mode=mode,  # type: ignore[arg-type]
        steps=60,
        px=32,
        batch_size=4,
        lr=5e-3,
        warmup_steps=3,
        decoder=(16, 16, 8, 8, 8),
        save_every=60,
    )
    design = Design(sizes=(5,), seeds=(seed,), metrics=("dice", "iou"), training=training)
    begin = start("random", architecture="test_resnet", name="drawn")
    return segmentation.run([begin], pictures, out=out, design=design)


def dice(found: segmentation.Scores) -> float:
    return float(np.mean(found.curve("drawn", test_set="mosaic", metric="dice")[5]))


def best_blind(found: segmentation.Scores, pictures: Pictures) -> float:
    """Returns the Dice of the best guess that looks at no picture, chosen with the answers at hand: one place, one answer."""
    tested = [
        m > 0 for m, g in zip(pictures.masks, pictures.groups_N, strict=True) if g in found.groups["mosaic"]
    ]
    often_HW = np.mean(tested, 0)

    def of(guess_HW: np.ndarray) -> float:
        return float(np.mean([2 * (guess_HW & m).sum() / (guess_HW.sum() + m.sum()) for m in tested]))

    return max(of(often_HW >= share) for share in np.unique(often_HW))


every_mode = pytest.mark.parametrize("mode", ["finetuned", "frozen"])


@every_mode
def test_what_can_be_seen_is_segmented_and_masks_of_other_pictures_score_what_blindness_does(
    tmp_path: Path, mode: str
) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    own, others = mosaic(), dealt(mosaic())
    perfect, chance = (segmented(tmp_path / name, mode, p) for name, p in (("own", own), ("others", others)))
    everywhere = chance.floor["mosaic"]["dice"].mean()
    assert dice(perfect) > 0.95 > best_blind(perfect, own) + 0.1
    assert everywhere - 0.05 < dice(chance) < best_blind(chance, others)


@every_mode
def test_the_seed_decides_every_score_of_a_segmentation(tmp_path: Path, mode: str) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    one, again, other = (
        segmented(tmp_path / name, mode, mosaic(), seed=seed)
        for name, seed in (("one", 0), ("again", 0), ("other", 1))
    )
    assert list(one.cells.values()) == list(again.cells.values()) != list(other.cells.values())


# -- looks


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_gives_the_same_numbers_under_the_same_seed(tmp_path: Path, name: str) -> None:
    task = pixels()
    centres = {task.task: ([f"c{i // 4 % 2}" for i in range(len(task.labels_N))], task.groups_N.tolist())}

    def look(folder: str) -> Any:
        setup = Setup(first=tiny(1), cache=tmp_path / folder, resamples=200, centre_of=centres)
        return LOOKS[name](tiny(0), lambda _: task, setup)

    assert look("one") == look("again")
