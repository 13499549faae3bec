"""Experiments: presets fill gaps, and whatever is not understood is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from histozoo import experiment
from histozoo.errors import UsageError
from histozoo.recipes import PRESETS

ROOT = Path(__file__).parents[1]
MINIMAL = {"name": "resnet18.multitask_tiny", "tasks": ["oral_oscc", "glas"]}


def test_a_minimal_experiment_is_filled_from_the_preset() -> None:
    faithful = experiment.resolve({**MINIMAL, "preset": "faithful"})
    assert (faithful.architecture, faithful.recipe) == ("resnet18", "multitask")
    assert (faithful.optimizer, faithful.lr, faithful.own["head_lr_factor"], faithful.steps) == (
        "sgd",
        1e-4,
        5.0,
        50_000,
    )
    assert experiment.resolve(MINIMAL).optimizer == "adamw"


def test_every_preset_holds_known_fields_only() -> None:
    fields = {f.name for f in dataclasses.fields(experiment.Experiment)} | experiment.OWN["multitask"].keys()
    assert PRESETS["multitask"].keys() == {"faithful", "modern"}
    for preset in PRESETS["multitask"].values():
        assert preset.keys() <= fields


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('name = "resnet18.multitask_tiny"\ntasks = ["glas"]\nbatchsize = 4\n')
    with pytest.raises(UsageError) as caught:
        experiment.read(path)
    assert caught.value.code == "HZ-U42"
    assert "unknown experiment key 'batchsize'" in str(caught.value)
    assert "did you mean 'batch_size'?" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("steps", 0, "int, at least 1"),
        ("steps", 10.5, "int"),
        ("steps", True, "int"),
        ("lr", "0.1", "float"),
        ("lr", -1.0, "float"),
        ("precision", "fp16", "bf16 or fp32"),
        ("optimizer", "adam", "sgd or adamw or lars"),
        ("tasks", [], "tuple"),
        ("mean", [0.5, 0.5], "tuple"),
        ("mean", [0.5, 0.5, "0.5"], "tuple"),
        ("preset", "fast", "faithful, modern"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(key: str, value: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        experiment.resolve({**MINIMAL, key: value})
    assert caught.value.code == "HZ-U43"
    assert says in caught.value.expected
    assert repr(value) in str(caught.value) or str(value) in str(caught.value)


def test_a_file_that_is_no_toml_or_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.toml").write_text("name = ")
    for path in (tmp_path / "no.toml", tmp_path / "absent.toml"):
        with pytest.raises(UsageError, match="HZ-U41") as caught:
            experiment.read(path)
        assert str(path) in str(caught.value)


def test_every_experiment_in_the_repository_reads_and_is_named_like_its_file() -> None:
    paths = sorted((ROOT / "experiments").glob("*.toml"))
    assert len(paths) >= 1
    for path in paths:
        assert experiment.read(path).name == path.stem
        head = path.read_text(encoding="utf-8").split("\nname =")[0]
        assert all(word in head for word in ("command", "hardware", "hours", "expected", "source")), path.name
