"""The study of slides: cells that outlive a kill, rows in the form of an entry's, paired differences."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo.errors import UsageError
from histozoo.evaluate.probe import features
from histozoo.evaluate.slides.bags import from_tiles
from histozoo.evaluate.slides.report import Setting, summarise, table
from histozoo.evaluate.slides.study import Plan, study
from histozoo.evaluate.slides.topk import Encoder, Tuning
from tests.fakes import bags as fakes
from tests.fakes.bags import toy

PLAN = Plan(poolings=("attention", "mean"), seeds=(0, 1), folds=2, epochs=2, resamples=100)


def cells(out: Path) -> dict[str, int]:
    return {
        p.relative_to(out).as_posix(): p.stat().st_mtime_ns for p in sorted((out / "cells").rglob("*.json"))
    }


def run(out: Path, *, stop_after: int = 0, subjects: Any = None, **changes: Any) -> dict[str, Any]:
    def progress(done: int, _: int) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    plan = dataclasses.replace(PLAN, **changes)
    return study(subjects or {"trained": toy(slides=8)}, out=out, plan=plan, left_out=True, progress=progress)


def test_a_study_that_was_killed_goes_on_and_ends_with_the_same_numbers(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_after=3)
    kept = cells(tmp_path / "cut")
    assert len(kept) == 3 and not (tmp_path / "cut/results.json").exists()
    assert run(tmp_path / "cut") == whole == json.loads((tmp_path / "cut/results.json").read_text())
    after = cells(tmp_path / "cut")
    assert len(after) == 8 and {name: after[name] for name in kept} == kept
    other = {"trained": toy(slides=8, seed=1)}
    for given in ({"subjects": other}, {"epochs": 3}):
        with pytest.raises(UsageError, match="HZ-I72 the folder holds another study"):
            run(tmp_path / "cut", **given)
    assert cells(tmp_path / "cut") == after
    (tmp_path / "cut/cells/slides_mean/trained/seed0-fold0.json").unlink()
    more = run(
        tmp_path / "cut", resamples=50, poolings=("mean",)
    )  # what does not change a cell may be changed
    assert {r["protocol"] for r in more["results"]} == {"slides_mean"}


def test_top_k_tuning_is_a_protocol_beside_the_others_with_itself_before(tmp_path: Path) -> None:
    tiles_NHWC, labels_N, slides_N, names = fakes.pixels(slides=12, tiles=3)
    encoder = Encoder(model=fakes.Encoder().eval(), tiles_NHWC=tiles_NHWC, mean=fakes.MEAN, std=fakes.STD)
    f_ND = features(encoder.model, tiles_NHWC, mean=encoder.mean, std=encoder.std)
    bags = from_tiles(f_ND, labels_N, slides_N, task="toy", classes=fakes.CLASSES, names=names)
    plan = dataclasses.replace(
        PLAN, poolings=(), seeds=(0,), tuning=Tuning(k=2, epochs=1, choosers=2), epochs=1
    )
    report = study({"trained": bags}, out=tmp_path, plan=plan, left_out=True, encoders={"trained": encoder})
    assert {r["protocol"] for r in report["results"]} == {
        "slides_topk_attention",
        "slides_topk_attention_before",
    }
    assert {d["minus"] for d in report["differences"]} == {"slides_topk_attention_before"}
    assert list((tmp_path / "cells").rglob("*.run")) == []  # checkpoints go when their cell is written
    stored = json.loads((tmp_path / "cells/slides_topk_attention/trained/seed0-fold0.json").read_text())
    assert all(len(rows) == 2 for rows in stored["chosen"].values())


def test_results_are_rows_of_an_entry_with_paired_differences() -> None:
    bags, random = toy(slides=20), np.random.default_rng(0)
    good = np.eye(2)[bags.labels_S] * 0.8 + 0.1
    bad = random.dirichlet((1, 1), 20)
    found: Any = {
        "slides_mean": {"trained": bad[None], "random": bad[None]},
        "slides_attention": {"trained": good[None], "random": bad[None]},
    }
    setting = Setting(seeds=(0,), seed=0, folds=5, resamples=500, left_out=True)
    report = summarise(bags, found, setting)
    rows = {(r["protocol"], r["subject"], r["metric"]): r for r in report["results"]}
    assert len(rows) == 2 * 3 * 3
    best = rows["slides_attention", "trained", "balanced_accuracy"]
    assert (best["value"], best["interval"], best["n"], best["n_groups"]) == (1, [1, 1], 20, 20)
    apart = rows["slides_attention", "difference", "balanced_accuracy"]
    other = rows["slides_attention", "random", "balanced_accuracy"]
    assert apart["value"] == pytest.approx(1 - other["value"], abs=2e-6) and apart["interval"][0] > 0
    text = table(report)
    differences = {(d["subject"], d["metric"]): d for d in report["differences"]}
    assert differences["trained", "roc_auc_ovr"]["interval"][0] > 0
    assert differences["random", "roc_auc_ovr"]["value"] == 0
    assert "slides_attention - slides_mean (trained), roc_auc_ovr" in text and "] interval above 0" in text
    assert "(random), balanced_accuracy: 0.000 [0.000, 0.000] interval holds 0" in text


def test_subjects_must_have_the_same_slides(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HZ-I64 the subjects are not compared on the same slides"):
        run(tmp_path, subjects={"trained": toy(slides=8), "random": toy(slides=10)})


def test_every_field_of_the_plan_that_the_fit_reads_reaches_it() -> None:
    from histozoo.evaluate.slides.study import _settings

    found = _settings(Plan(epochs=7, select="accuracy", standardise=True), "gated")
    assert (found.pooling, found.epochs, found.select, found.standardise) == ("gated", 7, "accuracy", True)
