"""What an experiment file alone says wrongly is refused before a tile is opened and a file written: the corrected file just trains."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from histozoo import experiment, pretrain, training_data
from histozoo.assemble import check_recipe, check_start
from histozoo.errors import IntegrityError, ResourceError, UsageError
from histozoo.recipes import RECIPES
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, write_drawn

EXPERIMENT = """
name = "{architecture}.{recipe}_drawn"
preset = "small"
tasks = ["drawn_nuclei", "drawn_stroma"]
tile_px = 32
pack_px = 40
train_px = {train_px}
steps = 1
batch_size = 8
precision = "fp32"

[objective]
{objective}

[views]
{views}
"""
SMALL = {
    "simclr": "hidden = 24\noutputs = 16",
    "mae": "decoder_width = 24\ndecoder_depth = 1\ndecoder_heads = 3",
    "dino": "outputs = 16\nhidden = 24\nbottleneck = 8",
    "ibot": "outputs = 16\nhidden = 24\nbottleneck = 8",
}
CROPS = "local_px = 16"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """`data` with two tasks."""
    torch.set_num_threads(1)
    write_drawn(tmp_path)
    yield tmp_path
    for name in DRAWN:
        TASKS.pop(name)


def write(place: Path, recipe: str, **said: Any) -> None:
    architecture = "test_vit" if recipe in ("mae", "ibot") else "test_resnet"
    usual = {"architecture": architecture, "train_px": 32, "views": "", "objective": SMALL[recipe]}
    (place / "e.toml").write_text(EXPERIMENT.format(recipe=recipe, **{**usual, **said}))


def run(place: Path) -> Path:
    """The command that is given before and after the file is corrected."""
    return pretrain.run(place / "e.toml", data_root=place / "data", runs=place / "runs", device="cpu")


@pytest.mark.parametrize(
    ("recipe", "wrong", "right", "code", "said"),
    [
        ("simclr", {"views": "sigma = [2.0, 0.1]"}, {"views": "sigma = [0.1, 2.0]"}, "HZ-U86", "this sigma"),
        ("simclr", {"views": "area = [1.0, 0.4]"}, {"views": "area = [0.4, 1.0]"}, "HZ-U86", "this area"),
        ("simclr", {"views": "area = [0.0, 1.0]"}, {"views": "area = [0.4, 1.0]"}, "HZ-U86", "this area"),
        ("simclr", {"views": "area = [0.5, 1.5]"}, {"views": "area = [0.5, 1.0]"}, "HZ-U86", "this area"),
        ("simclr", {"views": "hue = 0.7"}, {"views": "hue = 0.07"}, "HZ-U86", "this hue"),
        ("simclr", {"views": 'without = ["hues"]'}, {"views": 'without = ["hue"]'}, "HZ-U86", "no such operation"),
        ("simclr", {"views": "global_views = 1"}, {}, "HZ-U87", "simclr compares 2 view"),
        ("simclr", {"views": f"local_views = 2\n{CROPS}"}, {}, "HZ-U87", "simclr compares 2 view"),
        ("mae", {"views": "global_views = 2"}, {}, "HZ-U87", "mae compares 1 view"),
        ("mae", {"train_px": 40}, {}, "HZ-U87", "does not take"),
        ("ibot", {"views": "local_px = 20"}, {"views": CROPS}, "HZ-U87", "does not take"),
        ("dino", {"train_px": 40}, {"train_px": 40, "views": "local_px = 20"}, "HZ-U86", "local crops are larger"),
        ("dino", {"views": "local_px = 4096"}, {"views": CROPS}, "HZ-U86", "local crops are larger"),
    ],
)  # fmt: skip
def test_a_mistake_leaves_no_run_folder_and_the_corrected_file_trains(
    place: Path, recipe: str, wrong: dict[str, Any], right: dict[str, Any], code: str, said: str
) -> None:
    write(place, recipe, **wrong)
    with pytest.raises(UsageError, match=f"{code} .*{said}"):
        run(place)
    assert not (place / "runs").exists()
    write(place, recipe, **right)
    assert (run(place) / "final" / "DONE.json").exists()


@pytest.mark.parametrize("step", [0, 7])
def test_a_step_without_a_checkpoint_leaves_no_run_folder(place: Path, step: int) -> None:
    write(place, "simclr")
    with pytest.raises(IntegrityError, match=f"HZ-F43 checkpoint {step} cannot be used"):
        pretrain.run(place / "e.toml", data_root=place / "data", runs=place / "runs", resume_step=step)
    assert not (place / "runs").exists()


def test_weights_that_cannot_be_fetched_leave_no_run_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = timm.create_model

    def offline(name: str, *, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise OSError("no route to the weights")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    write(place, "simclr")
    begin = partial(pretrain.run, place / "e.toml", data_root=place / "data", runs=place / "runs")
    with pytest.raises(ResourceError, match="HZ-B14"):
        begin(init="timm:test_resnet")
    assert [path.name for path in (place / "runs").iterdir()] == ["tiles"]  # decoded, for the next start
    assert (begin() / "final" / "DONE.json").exists()


@pytest.mark.parametrize("recipe", ["mae", "ibot"])
@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext"])
def test_a_pair_that_cannot_be_is_refused_before_its_views_and_tiles(
    place: Path, recipe: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data.tiles, "pack", lambda *_: pytest.fail("tiles were packed"))
    # Of ibot the preset's local crops of 48 px do not fit these views either; with a transformer they are what is told.
    write(place, recipe, architecture=architecture)
    with pytest.raises(UsageError, match=f"HZ-U87 {recipe} hides tokens"):
        run(place)
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("recipe", "sizes", "said"),
    [
        ("multitask", {"train_px": 40}, "train_px gives views"),
        ("multitask", {"tile_px": 40}, "tile_px is a side"),
        ("simclr", {"tile_px": 40}, "tile_px is a side"),
    ],
)
def test_sizes_that_a_transformer_does_not_take_are_refused_for_labelled_views_and_for_tiles(
    recipe: str, sizes: dict[str, int], said: str
) -> None:
    raw = {"name": f"test_vit.{recipe}_x", "tasks": ["a"], "tile_px": 32, "train_px": 32, **sizes}
    with pytest.raises(UsageError, match=f"HZ-U87 {said}") as caught:
        check_recipe(
            experiment.resolve({"preset": "modern" if recipe == "multitask" else "small", **raw}), {"a": 2}
        )
    assert (caught.value.got, caught.value.expected) == ("[40] px", "a multiple of 16 px")


def test_local_crops_larger_than_the_views_are_told_with_where_their_size_comes_from() -> None:
    raw = {"name": "test_resnet.dino_x", "tasks": ["a"], "preset": "small", "train_px": 40}
    with pytest.raises(UsageError) as preset:
        check_recipe(experiment.resolve(raw), {})
    assert preset.value.got == "local_px = 48, as preset 'small' has it"
    assert "train_px = 40" in preset.value.expected and "local_px in [views]" in preset.value.next_step
    with pytest.raises(UsageError) as given:
        check_recipe(experiment.resolve({**raw, "views": {"local_px": 41}}), {})
    assert given.value.got == "local_px = 41"
    check_recipe(experiment.resolve({**raw, "views": {"local_px": 40}}), {})


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_looked_at_without_memory_and_without_the_resolution_of_tiles(recipe: str) -> None:
    architecture = "vit_large_patch16_224" if recipe in ("mae", "ibot") else "convnext_large"
    unlabelled = {"views": {"mpp": [0.2, 0.4]}} if recipe != "multitask" else {}
    preset = {"multitask": "modern", "multitaskssl": "small"}.get(recipe, "paper")
    e = experiment.resolve(
        {"name": f"{architecture}.{recipe}_x", "tasks": ["a"], "preset": preset, **unlabelled}
    )
    check_start(e)
    check_recipe(e, {"a": 2})


@pytest.mark.parametrize("key", ["mpp", "local_area", "without"])
@pytest.mark.parametrize("value", [0.0, 0, False, ""])
def test_nothing_in_the_place_of_a_list_is_a_wrong_value_and_not_its_absence(key: str, value: object) -> None:
    raw = {"name": "test_resnet.dino_x", "tasks": ["a"], "preset": "small"}
    with pytest.raises(UsageError, match=f"HZ-U43 experiment key '{key}' has a wrong value"):
        experiment.resolve({**raw, "views": {key: value}})


def test_empty_bounds_are_refused_and_other_empty_lists_are_as_a_record_writes_them() -> None:
    raw = {"name": "test_resnet.dino_x", "tasks": ["a"], "preset": "small"}
    with pytest.raises(UsageError, match="HZ-U43 experiment key 'mpp'") as caught:
        experiment.resolve({**raw, "views": {"mpp": []}})
    assert caught.value.got == "[]" and "above 0" in caught.value.expected
    e = experiment.resolve({**raw, "views": {"local_area": [], "without": []}})
    assert e == experiment.resolve(raw)


@pytest.mark.parametrize("key", ["tasks", "watch"])
def test_a_task_named_twice_is_refused(key: str) -> None:
    raw: dict[str, Any] = {"name": "test_resnet.dino_x", "tasks": ["a"], "preset": "small"}
    with pytest.raises(UsageError, match=f"HZ-U43 experiment key '{key}'") as caught:
        experiment.resolve({**raw, key: ["b", "c", "b"]})
    assert (caught.value.got, caught.value.expected) == ("['b']", "each task once")


def test_a_key_of_other_recipes_is_told_with_those_that_have_it() -> None:
    raw: dict[str, Any] = {"name": "test_resnet.dino_x", "tasks": ["a"], "preset": "small"}
    with pytest.raises(
        UsageError, match="HZ-U42 recipe dino has no experiment key 'head_lr_factor'"
    ) as caught:
        experiment.resolve({**raw, "head_lr_factor": 2.0})
    assert caught.value.expected.endswith("of multitask, multitaskssl")
