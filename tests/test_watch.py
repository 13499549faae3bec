"""Tasks that a self-supervised run is only measured on: they show how it is doing and leave no trace in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from histozoo import candidate, experiment, pretrain
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import trunks
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, drawn_task, write_drawn
from tests.fakes.unlabelled import blobs, write_folder

UNLABELLED = """
name = "test_resnet.simclr_blobs"
preset = "small"
tile_px = 32
pack_px = 40
train_px = 32
steps = 4
batch_size = 8
eval_every = 2
save_every = 4
precision = "fp32"
corpus = "Blobs."
intended_use = "Tests."
limits = "Drawn tiles."

[objective]
hidden = 24
outputs = 16

[unlabelled.blobs]
folder = "blobs"
lineage = "first"

[unlabelled.more]
folder = "more"
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """`data` with two tasks and two folders without labels, and the experiment on the folders."""
    torch.set_num_threads(1)
    write_drawn(tmp_path)
    write_folder(tmp_path / "data" / "blobs", blobs(20, px=48, seed=1))
    write_folder(tmp_path / "data" / "more", blobs(20, px=48, seed=2))
    (tmp_path / "e.toml").write_text(UNLABELLED)
    yield tmp_path
    for name in DRAWN:
        TASKS.pop(name)


def run(place: Path, runs: str = "runs", **changes: Any) -> Path:
    return pretrain.run(
        place / "e.toml", data_root=place / "data", runs=place / runs, device="cpu", **changes
    )


def data(run: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((run / "data.json").read_text())
    return found


def evaluations(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [r for r in lines if "feature_std" in r]


def test_a_watched_task_is_measured_on_and_leaves_no_trace_in_the_weights(place: Path) -> None:
    watching, blind = run(place, watch=["drawn_nuclei"]), run(place, "blind")
    records = evaluations(watching)
    assert [r["step"] for r in records] == [2, 4]
    assert all(r["knn_drawn_nuclei"] == r["knn_balanced_accuracy"] for r in records)
    ends = [load_file(r / "final" / "model.safetensors") for r in (watching, blind)]
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][k], ends[1][k]) for k in ends[1])
    facts = data(watching)["drawn_nuclei"]
    assert facts["watched"] is True and facts["n_train"] == 0 and facts["lineage"] == "first"
    assert data(blind).keys() == {"blobs", "more"}


def test_a_watched_task_counts_as_unseen_and_the_entry_says_that_it_was_watched(place: Path) -> None:
    watching = run(place, watch=["drawn_stroma"])
    assert trunks.read_run(watching).tasks == {"blobs": "first", "more": "more"}
    finished = candidate.read_run(watching)
    raw = candidate.draft(finished, candidate.facts_of("test_resnet", tile_px=32), rounding="", parents=[])
    assert [c["task"] for c in raw["histozoo"]["corpus"]] == ["blobs", "more"]
    assert "Watched while training, and never trained on: drawn_stroma." in raw["histozoo"]["notes"]


def test_without_any_task_the_first_tiles_show_collapse(place: Path) -> None:
    records = evaluations(run(place))
    assert [r["step"] for r in records] == [2, 4]
    assert all({k for k in r if "knn" in k} == set() for r in records)
    assert all(r["feature_std"] > 0.01 and r["rank_me"] > 1 for r in records)


def test_a_task_that_is_trained_on_and_one_that_is_watched_are_both_measured(place: Path) -> None:
    both = run(place, tasks=["drawn_nuclei"], watch=["drawn_stroma"])
    assert {"knn_drawn_nuclei", "knn_drawn_stroma"} <= evaluations(both)[0].keys()
    assert trunks.read_run(both).tasks.keys() == {"drawn_nuclei", "blobs", "more"}


def test_a_watched_task_of_a_lineage_that_is_left_out_is_not_looked_at(place: Path) -> None:
    changes: dict[str, Any] = {"watch": ["drawn_nuclei", "drawn_stroma"], "leave_out": ["first"]}
    without = run(place, **changes)
    assert data(without).keys() == {"drawn_stroma", "more"}
    assert {k for k in evaluations(without)[0] if k.startswith("knn_drawn")} == {"knn_drawn_stroma"}


def test_f44_other_watched_tiles_are_noticed_when_a_run_is_done(place: Path) -> None:
    done = run(place, watch=["drawn_nuclei"])
    assert run(place, watch=["drawn_nuclei"]) == done
    with pytest.raises(IntegrityError, match="HZ-F44") as caught:
        run(place, watch=["drawn_stroma"])
    assert "watch" in caught.value.got


@pytest.mark.parametrize(
    ("changes", "code", "got"),
    [
        ({"tasks": ["drawn_nuclei"], "watch": ["drawn_nuclei"]}, "HZ-U44", "it is trained on"),
        ({"watch": ["drawn_masks"]}, "HZ-U44", "kind segmentation"),
        ({"watch": ["drawn_nothing"]}, "HZ-U30", "drawn_nothing"),
        ({"watch": "drawn_nuclei"}, "HZ-U43", "'drawn_nuclei'"),
        (
            {"watch": ["drawn_nuclei"], "unlabelled": {"drawn_nuclei": {"folder": "more"}}},
            "HZ-U86",
            "drawn_nuclei",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused_before_anything_is_written(
    place: Path, changes: dict[str, Any], code: str, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = drawn_task("drawn_masks", ("a", "b"), lineage="third")
    object.__setattr__(masks, "kind", "segmentation")
    monkeypatch.setitem(TASKS, "drawn_masks", masks)
    with pytest.raises(UsageError, match=code) as caught:
        run(place, **changes)
    assert got in caught.value.got and not (place / "runs").exists()


def test_a_recipe_with_heads_of_its_own_has_nothing_to_watch(place: Path) -> None:
    with pytest.raises(UsageError, match="HZ-U42 recipe multitask has no experiment key 'watch'") as caught:
        experiment.read(place / "test_resnet.multitask_drawn.toml", watch=["drawn_nuclei"])
    assert "by its own heads" in caught.value.expected and "histozoo evaluate" in caught.value.next_step
    with pytest.raises(UsageError, match="HZ-U42 recipe multitaskssl has no"):
        experiment.resolve({"name": "test_resnet.multitaskssl_x", "preset": "small", "watch": ["a"]})
