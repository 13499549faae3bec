"""Each study from its file to its report at smoke size, on drawn tiles; killed and gone on."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from histozoo import card, registry
from histozoo.cli import app
from histozoo.errors import UsageError
from histozoo.evaluate import truncate
from histozoo.evaluate.compare.plan import RANDOM_SEEDS
from histozoo.evaluate.cut_scores import score_cuts
from histozoo.evaluate.encoder_sources import trained
from histozoo.evaluate.labelled import read as labelled_tiles
from histozoo.evaluate.segment.pictures import SETS
from histozoo.studies import folder, multitask, recorded, run, slides
from histozoo.studies.comparing import Answer, Asked, decide
from histozoo.studies.segmentation_part import BASELINE, COLOURS, FLOOR
from histozoo.studies.study_file import read
from histozoo.tasks import TASKS
from tests.fakes import masks
from tests.fakes.tasks import DRAWN, write_drawn
from tests.fakes.tiny import NAME, tiny_zoo

STUDIES = Path(__file__).parents[1] / "experiments" / "studies"
MULTITASK = {
    "models": [NAME, f"random:{NAME}@0", "colour-histogram"],
    "tasks": ["drawn_nuclei", "drawn_stroma"],
    "protocols": ["logistic"],
    "resamples": 300,
}
SEGMENTATION = {
    "models": [NAME],
    "sizes": {"glas": [1, 2]},
    "away": [],
    "modes": ["frozen"],
    "seeds": [0],
    "steps": 1,
    "px": 32,
    "stride": 16,
    "batch_size": 2,
    "shrink": {"glas": 1},
    "decoder": [8, 8, 8, 8, 8],
    "metrics": ["dice", "object_hausdorff"],
    "resamples": 300,
}
SLIDES = {
    "models": [NAME],
    "task": "drawn_nuclei",
    "poolings": ["attention", "mean"],
    "seeds": [0],
    "folds": 2,
    "epochs": 1,
    "top_k": 2,
    "tuning_epochs": 1,
    "choosers": 2,
    "cut_tasks": ["drawn_nuclei"],
    "resamples": 500,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with drawn tasks below `data`, and a zoo of one tiny model."""
    write_drawn(tmp_path)
    monkeypatch.setenv("HISTOZOO_ZOO", str(tiny_zoo() / "zoo"))
    yield tmp_path
    for name in DRAWN:
        TASKS.pop(name)


def measure(place: Path, name: str, changed: dict[str, Any], *, stop_at: str = "", out: str = "out") -> Path:
    def tell(line: str) -> None:
        if stop_at and stop_at in line:
            raise KeyboardInterrupt

    study = read(STUDIES / f"{name}.toml", preset="small", changed=changed)
    bench = folder.Bench(out=place / out, data_root=place / "data", cache=place / "cache", tell=tell)
    run.run(study, bench, command=f"histozoo study {name}.toml")
    return bench.out


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "results.csv").read_text().splitlines()))


def test_multitask_goes_on_after_a_kill_and_ends_with_the_same_numbers(place: Path) -> None:
    whole = measure(place, "multitask", MULTITASK, out="whole")
    with pytest.raises(KeyboardInterrupt):
        measure(place, "multitask", MULTITASK, stop_at="logistic of colour histogram")
    assert not (place / "out/DONE.json").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in (place / "out/cells").iterdir()}
    out = measure(place, "multitask", MULTITASK)
    assert kept and {n: (out / "cells" / n).stat().st_mtime_ns for n in kept} == kept
    assert (out / "results.csv").read_text() == (whole / "results.csv").read_text()
    text = (out / "report.md").read_text()
    assert "in 2 starts" in text and "Preset `small`, changed: models" in text
    for plot in json.loads((out / "DONE.json").read_text()):
        assert (out / plot).is_file()
    said = json.loads((out / "results.json").read_text())["follows"]
    assert all(sentence in text for sentence in said) and len(said) >= 2
    ranked = [r for r in rows(out) if r["metric"] == "mean_rank_by_balanced_accuracy"]
    assert [r["model"] for r in ranked] and {r["model"] for r in ranked} == set(MULTITASK["models"])  # type: ignore[arg-type]
    assert sum(float(r["value"]) for r in ranked) == pytest.approx(1 + 2 + 3)
    told = [f"{float(r['value']):.3f} [{float(r['low']):.3f}, {float(r['high']):.3f}]" for r in ranked]
    assert all(interval in text for interval in told) and {r["task"] for r in ranked} == {"mean over 2 tasks"}
    answers = [r for r in rows(out) if r["minus"] and r["metric"] == "balanced_accuracy"]
    assert {r["minus"] for r in answers} == set(MULTITASK["models"][1:]) and len(answers) == 4  # type: ignore[arg-type]
    assert all((r["outcome"] == NAME) == (float(r["p_holm"]) < 0.05 and float(r["low"]) > 0) for r in answers)


def heard(study: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Asked, float]]:
    """Returns a list that the study's questions and differences will be written to."""
    asked: list[tuple[Asked, float]] = []

    def listening(drawn: Sequence[tuple[Asked, float, Any]]) -> list[Answer]:
        asked.extend((question, value) for question, value, _ in drawn)
        return decide(drawn)

    monkeypatch.setattr(study, "decide", listening)
    return asked


def test_multitask_asks_each_random_twin_for_how_far_seeds_lie_apart(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = heard(multitask, monkeypatch)
    twins = [f"random:{NAME}@{seed}" for seed in RANDOM_SEEDS]
    several = {"models": [NAME, f"random:{NAME}", *twins], "tasks": ["drawn_nuclei"]}
    measure(place, "multitask", MULTITASK | several)
    mean, *alone = asked
    assert [question.by_seed for question, _ in alone] == [(value,) for _, value in alone]
    assert mean[0].by_seed == pytest.approx([value for _, value in alone]) and len(alone) == len(RANDOM_SEEDS)
    assert mean[1] == pytest.approx(sum(mean[0].by_seed) / len(alone))


def test_what_a_model_was_trained_on_is_told_apart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage = json.loads((tiny_zoo() / f"zoo/{NAME}.json").read_text())["histozoo"]["corpus"][0]["lineage"]
    monkeypatch.setitem(TASKS, "drawn_nuclei", dataclasses.replace(DRAWN["drawn_nuclei"], lineage=lineage))
    out = measure(place, "multitask", MULTITASK)
    of = {r["task"]: r["part"] for r in rows(out)}
    assert of == {"drawn_nuclei": "marked", "drawn_stroma": "clean"}
    assert {r["outcome"] for r in rows(out) if r["task"] == "drawn_nuclei" and r["minus"]} == {"not called"}
    text = (out / "report.md").read_text()
    follows = text[text.index("## What follows") : text.index("## What ran")]
    assert "drawn_nuclei" not in follows and "## Contaminated, told apart" in text


def test_segmentation_compares_starts_at_every_size(place: Path) -> None:
    masks.write(place / "data" / "glas", masks.drawn("glas", groups=14, each=1))
    out = measure(place, "segmentation", SEGMENTATION)
    values = {
        (r["model"], r["task"].split(", ")[1], r["metric"]): float(r["value"])
        for r in rows(out)
        if not r["minus"]
    }
    sizes, metrics = ("1 group of glas", "2 groups of glas"), SEGMENTATION["metrics"]
    assert set(values) == set(itertools.product((NAME, BASELINE, COLOURS, FLOOR), sizes, metrics))  # type: ignore[call-overload]
    gains = [r for r in rows(out) if r["minus"]]
    pairs = {(r["model"], r["minus"]) for r in gains}
    assert pairs == {(NAME, BASELINE), *itertools.product((NAME, BASELINE), (COLOURS, FLOOR))}
    assert len(gains) == (len(pairs) + 1) * len(
        sizes
    )  # by metrics that do not decide from random weights only
    for r in gains:
        metric, _, turned = r["metric"].partition(", ")
        first, second = (values[r[k], f"{r['task']} of glas", metric] for k in ("model", "minus"))
        assert float(r["value"]) == pytest.approx((second - first) if turned else (first - second), abs=2e-6)
    assert {r["metric"] for r in gains} == {"dice", "object_hausdorff, sign turned"}
    text = (out / "report.md").read_text()
    assert (
        "frozen encoder, trained on glas" in text and "4 U-Nets" in text and (out / "glas-glas.svg").is_file()
    )
    assert "scored on glas (7 groups) by dice, object_hausdorff." in text
    assert "decoder 8, 8, 8, 8, 8 (`full`: 256, 128, 64, 32, 16)" in text
    (floor,) = {
        (r["value"], r["low"], r["high"])
        for r in rows(out)
        if (r["model"], r["metric"], r["minus"]) == (FLOOR, "dice", "")
    }
    low = "{:.3f} [{:.3f}, {:.3f}]".format(*map(float, floor))
    assert f"| {FLOOR} |  | {low} |" in text and f"By dice, against {COLOURS}: nets better on" in text
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    measure(place, "segmentation", SEGMENTATION)  # finished: nothing is done
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    (out / folder.DONE).unlink()
    measure(place, "segmentation", SEGMENTATION)  # written anew from the nets that are there
    cells = [p for p in before if p.parent.name == "cells"]
    assert len(cells) == 4 + 2 and {p: p.stat().st_mtime_ns for p in cells} == {p: before[p] for p in cells}
    assert "in 2 starts" in (out / "report.md").read_text()


def test_segmentation_goes_onto_entry_and_card(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks.write(place / "data" / "glas", masks.drawn("glas", groups=14, each=1))
    zoo = place / "zoo"
    shutil.copytree(tiny_zoo() / "zoo", zoo)
    monkeypatch.setenv("HISTOZOO_ZOO", str(zoo))
    before = json.loads((zoo / f"{NAME}.json").read_text())["histozoo"]["results"]
    study = read(STUDIES / "segmentation.toml", preset="small", changed=SEGMENTATION)
    with pytest.raises(UsageError, match="HZ-I75 a study with other settings is not recorded: sizes, away"):
        recorded.models(study)
    study = dataclasses.replace(study, changed={})
    names = recorded.models(study)
    assert names == [NAME]
    out = measure(place, "segmentation", SEGMENTATION)
    assert recorded.record(out, names) == recorded.record(out, names) == [zoo / f"{NAME}.json"]
    entry = registry.read_entry(zoo / f"{NAME}.json")
    new = [r for r in entry.raw["histozoo"]["results"] if r not in before]
    assert len(entry.raw["histozoo"]["results"]) == len(before) + len(
        new
    )  # the second time in the place of the first
    of = {(r["protocol"], r["subject"]): r for r in new}
    protocols = {
        "segmentation_frozen_1_steps_1_group_of_glas",
        "segmentation_frozen_1_steps_2_groups_of_glas",
    }
    assert set(of) == set(itertools.product(protocols, ("trained", "random", "difference")))
    told = {
        (r["model"], r["minus"], r["task"]): r
        for r in rows(out)
        if r["metric"] == "dice" and r["model"] in (NAME, BASELINE) and r["minus"] in ("", BASELINE)
    }
    for (protocol, subject), r in of.items():
        size = (
            protocol.removeprefix("segmentation_frozen_1_steps_").removesuffix("_of_glas").replace("_", " ")
        )
        pair = {"trained": (NAME, ""), "random": (BASELINE, ""), "difference": (NAME, BASELINE)}[subject]
        same = told[*pair, size if pair[1] else f"glas, {size} of glas"]
        assert (r["task"], r["metric"], r["left_out"], r["n_groups"]) == ("glas", "dice", True, 7)
        found = [r["value"], *r["interval"]]
        assert found == pytest.approx([float(same[k]) for k in ("value", "low", "high")], abs=2e-6)
    (out / "results.json").write_text("{}")
    with pytest.raises(UsageError, match="HZ-I75 there is nothing to record"):
        recorded.record(out, names)
    text = card.render(entry)
    assert "| glas | segmentation_frozen_1_steps_1_group_of_glas, dice |" in text
    assert "type: image-segmentation\n      name: segmentation_frozen_1_steps_1_group_of_glas\n" in text


def test_i75_only_segmentation_of_published_models_is_recorded() -> None:
    with pytest.raises(UsageError, match="HZ-I75 a study of kind multitask puts nothing onto entries"):
        recorded.models(read(STUDIES / "multitask.toml", preset="small"))
    changed = {"models": ["random:resnet18"]}
    study = read(STUDIES / "segmentation.toml", preset="small")
    distance = dataclasses.replace(study.settings, metrics=("object_hausdorff",))  # type: ignore[type-var]
    with pytest.raises(UsageError, match="HZ-I75 object_hausdorff is no score"):
        recorded.models(dataclasses.replace(study, settings=distance))
    with pytest.raises(UsageError, match="HZ-I75 there is no entry to record this on"):
        recorded.models(read(STUDIES / "segmentation.toml", preset="small", changed=changed))


def test_segmentation_tells_a_clean_model_from_one_that_saw_the_lineage(place: Path) -> None:
    masks.write(place / "data" / "glas", masks.drawn("glas", groups=14, each=1))
    lineage = json.loads((tiny_zoo() / f"zoo/{NAME}.json").read_text())["histozoo"]["corpus"][0]["lineage"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETS, "glas", dataclasses.replace(SETS["glas"], lineage=lineage))
        clean = f"random:{NAME}@1"
        models = {"models": [NAME, clean], "called": {clean: "other"}, "seeds": [0, 1]}
        out = measure(place, "segmentation", SEGMENTATION | models)
    text = (out / "report.md").read_text()
    follows = text[text.index("## What follows") : text.index("## What ran")]
    apart = text[text.index("## Contaminated") : text.index("## Limits")]
    sections = text[text.index("## What ran") : text.index("## Contaminated")]
    assert f"between other and {BASELINE}" in follows and NAME not in follows
    assert "| other, frozen |" in sections and f"| {NAME}, frozen |" not in sections
    assert f"| {NAME}, frozen |" in apart and "| other, frozen |" not in apart
    assert f"other (`{clean}`) was trained on the lineages none." in text
    assert f"| {COLOURS} | 1 group |" in sections and "| seed 0 | seed 1 |" in sections
    assert {(r["model"], r["part"]) for r in rows(out)} == {
        (NAME, "marked"),
        ("other", "clean"),
        (BASELINE, "clean"),
        (COLOURS, "clean"),
        (FLOOR, "clean"),
    }


def test_slides_compare_poolings_tuning_cuts_and_blocks(place: Path) -> None:
    out = measure(place, "slides", SLIDES)
    told = {(r["model"], r["setting"]) for r in rows(out) if not r["minus"]}
    assert {(NAME, "fine-tuned"), (NAME, "before fine-tuning"), (NAME, "attention")} <= told
    assert {("random weights", "attention"), ("random weights", "mean")} <= told
    check_cuts(place, [r for r in rows(out) if r["setting"].startswith("cut after")])
    text = (out / "report.md").read_text()
    assert "CKA of two seeds" in text and "## Shorter trunks of " in text
    (facts,) = json.loads((out / "results.json").read_text())["changed"]
    cka = [r for r in rows(out) if r["metric"] == "linear_cka"]
    left, right = facts["blocks"]
    pairs = {r["setting"]: float(r["value"]) for r in cka if not r["minus"] and "two seeds" not in r["model"]}
    assert set(pairs) == {f"{a} | {b}" for a in left for b in right}
    flat = {f"{a} | {b}": facts["values"][i][j] for i, a in enumerate(left) for j, b in enumerate(right)}
    assert all(pairs[k] == pytest.approx(v, abs=1e-4) for k, v in flat.items())
    for r in cka:
        if r["low"] and not r["minus"]:
            assert f"{float(r['value']):.3f} [{float(r['low']):.3f}, {float(r['high']):.3f}]" in text
            assert float(r["high"]) <= 1
    assert sum(bool(r["minus"]) for r in cka) == len(facts["changes"])
    assert list(out.glob("attention-*.png")) and not list(out.glob("heads/**/*.run"))
    names = folder.publish(out, place / "docs")
    assert not any(n.startswith("attention") for n in names) and f"cka-{NAME}.png" in names


def test_slides_tell_colours_beside_random_weights_and_how_far_seeds_lie_apart(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = heard(slides, monkeypatch)
    colours = "colour-histogram"
    small = {"models": [NAME, colours], "seeds": [0, 1], "epochs": 3, "top_k": 0, "cut_tasks": []}
    out = measure(place, "slides", SLIDES | small)
    network, plain = json.loads((out / "results.json").read_text())["heads"]
    by_seed = {
        (weights, kind): np.array(report["by_seed"][f"slides_{kind}"][subject]["balanced_accuracy"])
        for kind in ("attention", "mean")
        for weights, report, subject in (
            (NAME, network, "trained"),
            ("random weights", network, "random"),
            (colours, plain, "trained"),
        )
    }
    of = {
        (q.setting.partition(" ")[0], q.second): (q.by_seed, value) for q, value in asked if q.first == NAME
    }
    assert set(of) == {
        (kind, other) for kind in ("attention", "mean") for other in ("random weights", colours)
    }
    for (kind, other), (told, value) in of.items():
        wanted = by_seed[NAME, kind] - by_seed[other, kind]
        assert told == pytest.approx(wanted, abs=2e-6) and value == pytest.approx(wanted.mean(), abs=2e-6)
    values = {(r["model"], r["setting"]): float(r["value"]) for r in rows(out) if not r["minus"]}
    assert values[colours, "mean"] == pytest.approx(by_seed[colours, "mean"].mean(), abs=2e-6)
    assert f"| mean | {colours} |" in (out / "report.md").read_text()
    with pytest.raises(UsageError, match="HZ-U43"):
        measure(place, "slides", SLIDES | {"models": [colours]}, out="other")


def check_cuts(place: Path, told: list[dict[str, str]]) -> None:
    """Values and intervals of cuts are those of `score_cuts`, whose folds share their training rows as these do."""
    one = trained(NAME)
    labelled = labelled_tiles(
        "drawn_nuclei", data_root=place / "data", tile_px=one.tile_px, cache=place / "c"
    )
    found = score_cuts(
        one.block_features(labelled.tiles_NHWC, device="cpu"),
        truncate.cuts(one.module(), tile_px=one.tile_px),
        labelled,
        seed=0,
        resamples=2000,
    )
    for row, wanted in zip(told, found, strict=True):
        value, low, high = (float(row[k]) for k in ("value", "low", "high"))
        assert row["setting"] == f"cut after {wanted.cut.after}"
        assert value == pytest.approx(wanted.score.value, abs=1e-6)
        assert (low, high) == pytest.approx(wanted.score.interval, abs=0.03)  # resamples of their own


def test_the_verb_runs_a_study_and_copies_its_report(place: Path) -> None:
    file = place / "toy.toml"
    text = (STUDIES / "multitask.toml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    sets = [f"{key}={json.dumps(value)}" for key, value in (MULTITASK | {"tasks": ["drawn_nuclei"]}).items()]
    words = [
        "study",
        file,
        "--data-root",
        place / "data",
        "--out",
        place / "o",
        "--cache",
        place / "c",
        "--device",
        "cpu",
    ]
    words += ["--report", place / "docs", *(w for s in sets for w in ("--set", s))]
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    report = (place / "docs/report.md").read_text()
    assert "command `histozoo study toy.toml --preset small --set" in report and str(place) not in report
    wrong = CliRunner().invoke(app, ["study", str(file), "--set", "task=1"])
    assert wrong.exit_code == 2
