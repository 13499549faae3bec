"""`histozoo evaluate NAME... --task T`: the verb from the command line to its files, with a small real model and drawn tiles."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from histozoo import card, durable
from histozoo.cli import app
from histozoo.evaluate.finetune import settings
from histozoo.tasks import TASKS
from tests.fakes import compared
from tests.fakes.tasks import drawn_task
from tests.fakes.tiles import write_table
from tests.fakes.zoo import as_zoo, make_bundle

NAME = "test_resnet.multitask_tiny"
DRAWN = {
    "drawn_new": drawn_task("drawn_new", ("few", "many"), lineage="new_slides"),
    "drawn_seen": drawn_task(
        "drawn_seen", ("few", "many"), lineage="drawn"
    ),  # as the fake entry's corpus says
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    as_zoo(make_bundle(folder / "dist", NAME), folder / "zoo")
    for seed, task in enumerate(DRAWN.values()):
        write_table(folder / "data" / task.folder, 16, task.classes, px=96, seed=seed, groups=16)
    return folder


@pytest.fixture
def house(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of its own, two drawn tasks, and the cache of features that all tests share."""
    import shutil

    shutil.copytree(made / "zoo", tmp_path / "zoo")
    monkeypatch.setenv("HISTOZOO_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(made / "dist"))
    monkeypatch.setenv("HISTOZOO_DATA", str(made / "data"))
    for name, task in DRAWN.items():
        monkeypatch.setitem(TASKS, name, task)
    monkeypatch.setattr("sys.argv", ["histozoo", "evaluate", "as typed"])
    return tmp_path


def call(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def places(house: Path, made: Path) -> list[object]:
    return ["--out", house / "out", "--cache", made / "cache", "--device", "cpu"]


def told(house: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((house / "out" / "results.json").read_text())
    return found


def test_perfect_features_score_one_through_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared.install(monkeypatch, {"drawn_one": compared.labelled("drawn_one")})
    protocols = ("logistic", "linear_svm", "knn", "simpleshot")
    chosen = [part for protocol in protocols for part in ("--protocol", protocol)]
    text = call(
        "perfect",
        "--task",
        "drawn_one",
        *chosen,
        "--out",
        tmp_path / "out",
        "--cache",
        tmp_path,
        "--resamples",
        200,
    ).stdout
    assert text.count("1.000 [1.000, 1.000]") >= len(protocols)
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    values = {
        (r["protocol"], r["metric"]): float(r["value"])
        for r in rows
        if "calibration" not in r["metric"] and not r["setting"]
    }
    assert values == {(p, m): 1.0 for p in protocols for m in ("balanced_accuracy", "roc_auc_ovr")}


def test_a_model_its_twin_and_colours_side_by_side(house: Path, made: Path) -> None:
    names = [NAME, f"random:{NAME}", "colour-histogram"]
    tasks = ["--task", "drawn_new", "--task", "drawn_seen"]
    result = call(*names, *tasks, "--protocol", "knn", "--resamples", 500, *places(house, made))
    found = told(house)
    first = found["standings"][0]
    assert first["models"] == names
    assert {(r["task"], r["model"]): r["seen"] for r in first["rows"]}["drawn_seen", NAME] == "trained on it"
    assert first["clean_tasks"] == ["drawn_new"]
    assert [r["n_models"] for r in first["rows"][:3]] == [1, 3, 1]
    assert found["command"] == "histozoo evaluate 'as typed'"
    for name in ("results.csv", "results.txt", "results.html"):
        assert (house / "out" / name).stat().st_size > 100
    assert "told, not ranked" in result.stdout and "results.html" in result.stdout


def test_rows_are_recorded_on_the_entry_once(house: Path, made: Path) -> None:
    arguments = [NAME, f"random:{NAME}", "--task", "drawn_new", "--task", "drawn_seen", "--protocol", "knn"]
    for _ in range(2):
        call(*arguments, "--record", "--resamples", 200, *places(house, made))
        entry = json.loads((house / "zoo" / f"{NAME}.json").read_text())
        rows = entry["histozoo"]["results"]
        assert {r["task"] for r in rows} == {"drawn_new"}
        assert [r["subject"] for r in rows] == ["trained", "random", "difference"] * 2
    card.write(house / "zoo", house / "cards")
    assert "### Tasks it never saw" in (house / "cards" / f"{NAME}.md").read_text()


def test_i75_what_has_no_entry_is_refused_before_it_is_measured(house: Path, made: Path) -> None:
    result = call("colour-histogram", "--task", "drawn_new", "--record", *places(house, made), code=2)
    assert "HZ-I75" in result.stderr and not (house / "out").exists()


def refuse_to_write(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes a folder read-only, for root too."""
    write = durable._write

    def writing(descriptor: int, data: bytes | memoryview) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().parent == folder.resolve():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        write(descriptor, data)

    monkeypatch.setattr(durable, "_write", writing)


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_f42_a_folder_that_cannot_be_written_is_refused_before_it_is_measured(
    house: Path, made: Path, option: str
) -> None:
    (house / "file").write_text("in the way")
    given = {"--out": house / "out", "--cache": made / "cache", option: house / "file" / "below"}
    chosen = [part for pair in given.items() for part in pair]
    result = call(NAME, "--task", "drawn_new", "--protocol", "knn", *chosen, "--device", "cpu", code=5)
    assert "HZ-F42" in result.stderr and "file/below" in result.stderr and "next:" in result.stderr
    assert result.stdout == "" and not (house / "out").exists()


def test_f42_slides_and_a_run_alone_are_not_measured_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histozoo.evaluate import corpus
    from histozoo.evaluate.compare import slide_files

    for module, name in ((corpus, "measure"), (slide_files, "run")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it was measured"))
    (tmp_path / "file").write_text("in the way")
    below = tmp_path / "file" / "below"
    for arguments in ([tmp_path, "--cache", below], ["x", "--slides", "s.csv", "--out", below]):
        assert "HZ-F42" in call(*arguments, code=5).stderr


def test_f42_an_entry_that_cannot_be_written_is_refused_before_it_is_measured(
    house: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_write(monkeypatch, house / "zoo")
    measured = [NAME, "--task", "drawn_new", "--protocol", "knn", "--resamples", 200, *places(house, made)]
    result = call(*measured, "--record", code=5)
    assert "HZ-F42" in result.stderr and "Read-only file system" in result.stderr
    assert result.stdout == "" and not (house / "out").exists()
    call(*measured)


def test_seeds_and_shares_of_a_fine_tuning(house: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = dataclasses.replace(
        settings.PRESETS["small"], steps=4, eval_every=2, warmup_steps=1, batch_size=8
    )
    monkeypatch.setitem(settings.PRESETS, "small", quick)
    shares = ["--fraction", 0.5, "--fraction", 1, "--fraction", 0.001, "--seed", 0, "--seed", 1]
    protocols = ["--protocol", "finetune_head_only", "--protocol", "knn"]
    result = call(NAME, "--task", "drawn_new", *protocols, *shares, "--resamples", 200, *places(house, made))
    found = told(house)
    labels = [s["protocol"] for s in found["standings"] if s["metric"] == "balanced_accuracy"]
    assert labels == ["finetune_head_only@50%", "finetune_head_only", "finetune_head_only@0.1%", "knn"]
    for standings in found["standings"]:
        (row,) = standings["rows"] or [None]
        if standings["protocol"] == "finetune_head_only@0.1%":
            assert row is None and "HZ-I68" in standings["undefined"]["drawn_new"]
        elif standings["protocol"] == "knn":
            assert row["n_models"] == 1 and row["seed_sd"] is None and row["n"] == 32
        else:
            assert row is not None, standings["undefined"]
            assert row["n_models"] == 2 and row["n"] < 32
            assert row["total_low"] <= row["value"] <= row["total_high"]
    cells = {(c["protocol"], c["seed"]): c for c in found["cells"]}
    assert cells["finetune_head_only@50%", 0]["rows"] < cells["finetune_head_only", 0]["rows"]
    assert "means over seeds" in result.stdout
    again = call(NAME, "--task", "drawn_new", *protocols, *shares, "--resamples", 200, *places(house, made))
    assert not [line for line in again.stdout.splitlines() if line.startswith("drawn_new: ")], (
        "measured again"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([NAME, "--task", "drawn_new", "--without", "x"], "HZ-I75", "--without"),
        ([NAME], "HZ-I75", "no task is given"),
        (["runs/nowhere"], "HZ-I75", "there is no such run folder"),
        ([NAME, "--protocol", "knn"], "HZ-I75", "--task NAME"),
        ([NAME, "--record"], "HZ-I75", "--task NAME"),
        ([NAME, "--seed", "1"], "HZ-I75", "--task NAME"),
        ([NAME, "--task", "drawn_enw"], "HZ-U30", "drawn_new"),
        (
            ["timm:resnet18.a1_in1k", "--task", "drawn_enw"],
            "HZ-U30",
            "drawn_new",
        ),  # before weights are fetched
        ([NAME, "--task", "drawn_new", "--protocol", "kn"], "HZ-I75", "did you mean knn?"),
        ([NAME, "--task", "drawn_new", "--protocol", "kn"], "HZ-I75", "finetune_lora"),
        (["test_resnet.multitask_tinny", "--task", "drawn_new"], "HZ-C19", NAME),
        ([NAME, NAME, "--task", "drawn_new"], "HZ-I75", "each once"),
        (["timm:resnet8", "--task", "drawn_new"], "HZ-I67", "resnet"),
        ([NAME, "--task", "drawn_new", "--fraction", "2"], "HZ-I75", "share of the labels"),
        (["colour-histogramm", "--task", "drawn_new"], "HZ-I67", "did you mean colour-histogram?"),
        (["random:colour-histogram", "--task", "drawn_new"], "HZ-I67", "has no weights"),
        (
            [NAME, "--task", "drawn_new", "--protocol", "robustness_index", "--centres", "grop"],
            "HZ-I75",
            "--centres group",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    house: Path, made: Path, arguments: list[object], code: str, said: str
) -> None:
    stderr = call(*arguments, *places(house, made), code=2).stderr
    assert code in stderr and said in stderr
    assert not (house / "out").exists()


def test_u32_a_table_of_centres_is_read_before_anything_is_measured(house: Path, made: Path) -> None:
    table = house / "centres.csv"
    given = [NAME, "--task", "drawn_new", "--protocol", "knn", "--protocol", "robustness_index"]
    for text, said in (
        ("group\na\n", "with the columns group, centre"),
        ("group,centre\na,b\n", "HZ-I75 the centre of"),
    ):
        table.write_text(text)
        result = call(*given, "--centres", table, *places(house, made), code=2)
        assert said in result.stderr and result.stdout == "" and not (house / "out").exists()
