"""Slides through `histozoo evaluate`: groups of a task as slides, and feature files with a table of slides."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from histozoo import feature_files
from histozoo.cli import app
from histozoo.errors import UsageError
from histozoo.evaluate import scored
from histozoo.evaluate.compare import measure, run, slide_files
from histozoo.evaluate.compare.slide_files import SlidePlan
from histozoo.evaluate.slides.predict import predict
from tests.fakes.bags import toy
from tests.fakes.compared import EACH, install, labelled
from tests.test_looks import planned


def values(folder: Path, metric: str = "balanced_accuracy") -> dict[tuple[str, str], dict[str, Any]]:
    told = json.loads((folder / "results.json").read_text())
    return {
        (s["protocol"], row["model"]): row
        for s in told["standings"]
        for row in s["rows"]
        if s["metric"] == metric
    }


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few passes: what the heads can learn is tested where they are."""
    monkeypatch.setitem(predict.__kwdefaults__, "epochs", 4)


# -- the protocol --


def test_perfect_features_score_one_once_per_slide() -> None:
    bags = toy(slides=20)
    found, again = (predict(bags, pooling="gated", seed=1, folds=2) for _ in range(2))
    np.testing.assert_array_equal(np.sort(found.rows_N), np.arange(20))
    assert (found.guesses_N == bags.labels_S[found.rows_N]).all()
    np.testing.assert_array_equal(found.scores_NK, again.scores_NK)
    np.testing.assert_allclose(found.scores_NK.sum(1), 1, atol=1e-6)


# -- tasks whose groups are slides --


def test_groups_of_a_task_are_slides_in_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = labelled("drawn_one", groups=20)
    mixed = dataclasses.replace(
        task, task="mixed", labels_N=np.arange(len(task.labels_N)) % 2, fingerprint="1" * 64
    )
    install(monkeypatch, {"drawn_one": task, "mixed": mixed})
    chosen = planned(
        tmp_path,
        ("perfect",),
        tasks=["drawn_one", "mixed"],
        protocols=["slides_attention"],
        seeds=[0, 1],
    )
    run.run(chosen, resamples=200)
    found = values(chosen.out)
    for protocol in chosen.protocols:
        row = found[protocol, "perfect"]
        assert (row["value"], row["n"], row["n_groups"], row["n_models"]) == (1.0, 20, 20, 2)
    assert "slides groups" in (chosen.out / "results.txt").read_text()
    page = (chosen.out / "results.html").read_text()
    assert "the share of slides called rightly" in page and "<th class='n'>slides</th>" in page
    told = json.loads((chosen.out / "results.json").read_text())
    assert all("HZ-I71" in s["undefined"]["mixed"] for s in told["standings"])
    cells = {p: p.read_bytes() for p in (chosen.out / "cells").iterdir()}
    measured = measure.measure(chosen)
    assert {p: p.read_bytes() for p in (chosen.out / "cells").iterdir()} == cells
    one = measured.cells[0]
    assert len(one.labels_N) == 20 == len(task.labels_N) // EACH
    assert (np.bincount(one.fold_N) == 4).all()


# -- feature files --


def written(folder: Path, *, signal: float, slides: int = 20, seed: int = 0) -> Path:
    """Feature files, one per slide, and the table beside the folder."""
    bags = toy(slides=slides, signal=signal, seed=seed)
    for s, name in enumerate(bags.slides):
        made = feature_files.Features(
            names=bags.names[bags.rows(s)],
            sha256=("0" * 64,) * len(bags.bag(s)),
            features_ND=bags.bag(s),
            made_by={"model": f"m{signal}", "sha256": "1" * 64, "contract": {}},
        )
        feature_files.write(folder / f"{name}.safetensors", made)
    lines = [
        "slide,label,patient",
        *(f"{n},{'ab'[i % 2]},p{i // 2 * 2 + i % 2}" for i, n in enumerate(bags.slides)),
    ]
    (folder.parent / "biopsies.csv").write_text("\n".join(lines) + "\n")
    return folder


def by_mean(folder: Path, *sources: Path, seed: int = 0) -> SlidePlan:
    """Compares feature files in `folder` by mean pooling."""
    return SlidePlan(
        sources=[str(source) for source in sources],
        table=folder / "biopsies.csv",
        protocols=["slides_mean"],
        seeds=[seed],
        out=folder / "out",
    )


def test_feature_files_stand_side_by_side(tmp_path: Path) -> None:
    good, blind = written(tmp_path / "good", signal=4.0), written(tmp_path / "blind", signal=0.0)
    arguments = [
        str(good),
        str(blind),
        "--slides",
        str(tmp_path / "biopsies.csv"),
        "--seed",
        "0",
        "--seed",
        "1",
    ]
    arguments += [
        "--out",
        str(tmp_path / "out"),
        "--resamples",
        "200",
        "--device",
        "cpu",
        "--protocol",
        "slides_mean",
    ]
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == 0, result.output
    assert "biopsies: slides_mean of" in result.stdout
    found = values(tmp_path / "out")
    row = found["slides_mean", str(good)]
    assert (row["value"], row["n"], row["n_groups"], row["n_models"]) == (1.0, 20, 20, 2)
    assert row["seen"] == "unknown" and row["task"] == "biopsies"
    assert found["slides_mean", str(blind)]["value"] < 0.8
    again = CliRunner().invoke(app, ["evaluate", *arguments])
    assert again.exit_code == 0 and "biopsies: slides_mean of" not in again.stdout
    assert "How to read this" in (tmp_path / "out" / "results.html").read_text()


def test_the_numbers_are_those_of_the_protocol(tmp_path: Path) -> None:
    source = written(tmp_path / "one", signal=0.6)
    plan = by_mean(tmp_path, source, seed=3)
    slide_files.run(plan, resamples=200)
    bags = slide_files._bags(plan)[str(source)]
    direct = predict(bags, pooling="mean", seed=3, fold_seed=3)
    order = direct.rows_N.argsort()
    wanted = scored.estimate(
        bags.labels_S,
        direct.scores_NK[order],
        np.asarray(bags.patients),
        metric="roc_auc_ovr",
        fold_N=direct.fold_N[order],
        seed=3,
        resamples=200,
    )
    row = values(tmp_path / "out", "roc_auc_ovr")["slides_mean", str(source)]
    assert [row["value"], row["low"], row["high"]] == pytest.approx(
        [wanted.value, *wanted.interval], abs=1e-6
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"protocols": ["slides_medain"]}, "HZ-I75"),
        ({"protocols": ["knn"]}, "HZ-I75"),
        ({"sources": ["one", "one"]}, r"(?s)HZ-I75.*next: +leave the repeated one out"),
        ({"sources": ["one", "other"]}, "HZ-I71"),
        ({"sources": ["nowhere"]}, "HZ-I71 there is no such feature file or folder"),
        ({"sources": ["few"]}, "HZ-I71"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    written(tmp_path / "few", signal=1.0, slides=2)
    written(tmp_path / "other", signal=1.0, slides=20)
    (tmp_path / "other" / "s19.safetensors").rename(tmp_path / "other" / "t19.safetensors")
    written(tmp_path / "one", signal=1.0)
    given: dict[str, Any] = {"sources": ["one"], "protocols": ["slides_mean"], "seeds": [0]} | change
    given["sources"] = [str(tmp_path / s) for s in given["sources"]]
    plan = SlidePlan(table=tmp_path / "biopsies.csv", out=tmp_path / "out", **given)
    with pytest.raises(Exception, match=code):
        slide_files.run(plan, resamples=200)
    assert not (tmp_path / "out").exists()


def test_i65_too_few_resamples_are_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    plan = by_mean(tmp_path, *(written(tmp_path / name, signal=1.0) for name in ("one", "two")))
    with pytest.raises(UsageError, match="HZ-I65 too few resamples"):
        slide_files.run(plan, resamples=38)
    assert not (tmp_path / "out").exists()


def test_i63_one_slide_only_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "one", signal=1.0, slides=1)
    plan = by_mean(tmp_path, source)
    with pytest.raises(UsageError, match="HZ-I63 one slide cannot be both learnt from and scored"):
        slide_files.run(plan, resamples=200)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_h64_features_that_are_not_finite_are_refused_and_the_tile_is_named(
    tmp_path: Path, value: float
) -> None:
    good, bad = written(tmp_path / "good", signal=1.0), written(tmp_path / "bad", signal=1.0)
    file = bad / "s03.safetensors"
    found = feature_files.read(file)
    f_ND = found.features_ND.copy()
    f_ND[2, 1] = value
    feature_files.write(file, dataclasses.replace(found, features_ND=f_ND))
    arguments = [
        str(good),
        str(bad),
        "--slides",
        str(tmp_path / "biopsies.csv"),
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == 3 and "HZ-H64" in result.stderr and "s03.safetensors" in result.stderr
    assert f"not finite in 1 rows, first in {found.names[2]}" in result.stderr
    assert result.stdout == "" and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "beside", [["--task", "pbc_mini"], ["--record"], ["--fraction", "0.5"], ["--centres", "group"]]
)
def test_i75_options_that_mean_nothing_beside_slides_are_refused(tmp_path: Path, beside: list[str]) -> None:
    result = CliRunner().invoke(app, ["evaluate", "x", "--slides", str(tmp_path / "t.csv"), *beside])
    assert result.exit_code == 2 and "HZ-I75" in result.stderr and beside[0] in result.stderr
