"""Views bounded in micrometres per pixel: every recipe's crops stay within, and bounds that cannot hold are refused by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from histozoo import experiment, pretrain
from histozoo.assemble import unlabelled_views
from histozoo.data import cropping, resolution
from histozoo.data.drawing import SLOTS, View, draw
from histozoo.data.opening import open_sources
from histozoo.data.unlabelled import as_dataset
from histozoo.errors import UsageError
from histozoo.recipes import OBJECTIVES, PRESETS
from histozoo.tasks import TASKS
from tests.fakes import unlabelled as fakes
from tests.fakes.tasks import DRAWN, write_drawn

PACK, TRAIN, LOCAL = 128, 96, 48
FINEST, COARSEST = 0.25, 0.27
BOUNDS = [0.15, 0.3]
SAMPLES = 4000


def resolved(name: str, views: dict[str, Any], **changes: Any) -> experiment.Experiment:
    raw = {
        "name": f"resnet18.{name}_x",
        "preset": "small",
        "tasks": ["a"],
        "pack_px": PACK,
        "train_px": TRAIN,
    }
    return experiment.resolve({**raw, "views": views, **changes})


def shown(view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sides in pixels of many boxes of a view, those of the extreme numbers among them."""
    u = torch.rand(SAMPLES, len(SLOTS), generator=torch.Generator().manual_seed(0))
    below = 1 - 2**-24
    u[:4, SLOTS["area"]] = torch.tensor([0.0, 0.0, below, below])
    u[:4, SLOTS["aspect"]] = torch.tensor([0.0, below, 0.0, below])
    boxes = draw(view, u, hw=(PACK, PACK), strength_BS=None).boxes
    return boxes.width_B, boxes.height_B


@pytest.mark.parametrize("name", [*OBJECTIVES, "multitaskssl"])
def test_no_crop_of_any_recipe_leaves_its_bounds(name: str) -> None:
    local = {"local_px": LOCAL} if PRESETS[name]["small"]["views"].get("local_views") else {}
    e = resolved(name, {"mpp": BOUNDS, **local})
    views = unlabelled_views(e, (FINEST, COARSEST)).views
    assert len(views) == {"mae": 1}.get(name, 4 if local else 2)
    for view in views:
        for side in shown(view):
            least, most = float(side.min()) * FINEST / view.px, float(side.max()) * COARSEST / view.px
            pixel = COARSEST / view.px
            assert BOUNDS[0] - 1e-9 <= least < BOUNDS[0] + 4 * pixel
            assert BOUNDS[1] - 4 * pixel < most <= BOUNDS[1] + 1e-9
    if local:
        assert views[-1].px == LOCAL and views[-1].area[1] < views[0].area[0]


def test_bounds_are_written_out_in_place_of_areas_and_read_back_the_same() -> None:
    e = resolved("dino", {"mpp": BOUNDS})
    views = e.settings()["views"]
    assert views["mpp"] == BOUNDS and not {"area", "local_area"} & views.keys()
    again = experiment.resolve({k: v for k, v in e.settings().items() if k not in ("architecture", "recipe")})
    assert again == e
    assert resolved("mae", {"mpp": BOUNDS}, preset="paper").settings()["views"]["mpp"] == BOUNDS
    plain = resolved("dino", {}).settings()["views"]
    assert "mpp" not in plain and plain["area"] == [0.4, 1.0] and plain["local_area"] == []


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ({"mpp": BOUNDS, "area": [0.4, 1.0]}, "by mpp or by area, not both"),
        ({"mpp": BOUNDS, "local_area": [0.1, 0.3]}, "by mpp or by area, not both"),
        ({"mpp": BOUNDS, "without": ["crop"]}, "by mpp or by area, not both"),
        ({"mpp": [0.3, 0.15]}, "the smaller first"),
        ({"mpp": [0, 0.3]}, "above 0"),
        ({"mpp": [0.3, float("inf")]}, "above 0"),
        ({"local_area": [0.0, 0.3]}, "above 0 to 1"),
        ({"local_area": [0.3, 0.1]}, "the smaller first"),
        ({"mpp": [float("nan"), 0.3]}, "above 0"),
        ({"mpp": 0.3}, "tuple[float, float]"),
        ({"mpp": [0.3]}, "tuple[float, float]"),
    ],
)
def test_bounds_that_contradict_or_are_none_are_refused_when_the_experiment_is_read(
    views: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match="HZ-U43") as caught:
        resolved("dino", {"local_px": LOCAL, "local_views": 2, **views})
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("tile_mpp", "bounds", "aspect", "says"),
    [
        ((0.25, 0.25), (0.5, 0.6), 1.0, "HZ-U86 no crop of the tile has this resolution"),
        ((0.25, 0.25), (0.2, 0.21), 2.0, "HZ-U86 no crop of every tile keeps both bounds"),
        ((0.25, 1.0), (0.2, 0.3), 1.0, "HZ-U86 no crop of every tile keeps both bounds"),
        ((0.25, 0.25), (0.0001, 0.0002), 1.0, "HZ-U86 no crop of every tile keeps both bounds"),
    ],
)
def test_bounds_that_no_crop_keeps_are_refused(
    tile_mpp: tuple[float, float], bounds: tuple[float, float], aspect: float, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        cropping.area_for_mpp(tile_px=128, tile_mpp=tile_mpp, px=128, mpp=bounds, aspect=aspect)
    assert caught.value.got and caught.value.next_step


def test_a_bound_that_is_a_whole_number_of_pixels_is_kept() -> None:
    low, high = cropping.area_for_mpp(tile_px=256, tile_mpp=(0.5, 0.5), px=128, mpp=(0.6, 0.9))
    assert (low**0.5 * 256, high**0.5 * 256) == pytest.approx((154, 230))  # 153.6 and 230.4
    low, high = cropping.area_for_mpp(tile_px=100, tile_mpp=(0.1, 0.1), px=70, mpp=(0.1, 0.1))
    assert low == high == pytest.approx(0.49)


def test_the_resolution_of_packed_tiles_is_that_of_their_shorter_sides(tmp_path: Path) -> None:
    for number, size in enumerate(((48, 60), (40, 32))):
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(tmp_path / f"{number}.png")
    span = resolution.of_tiles(as_dataset(tmp_path), mpp=0.5, px=24)
    assert span == pytest.approx((0.5 * 32 / 24, 0.5 * 48 / 24))


def test_sources_of_every_kind_say_the_resolution_of_their_packed_tiles(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    root = fakes.write_all(tmp_path)
    sources = {name: {"mpp": 0.5, **said} for name, said in fakes.KINDS.items()}
    for _ in range(2):  # the second time from what was kept
        _, facts = open_sources(sources, px=16, cache=root / "cache", root=root)
        spans = {name: told.get("packed_mpp") for name, told in facts.items()}
        assert spans.pop("wsi") is None and facts["wsi"]["mpp"] == 1.0
        assert {tuple(s) for s in spans.values()} == {(0.75, 0.75)}


# -- in a run --


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Path]:
    """An experiment on drawn tiles of 40 px at 0.4 micrometres per pixel, packed to 32."""
    torch.set_num_threads(1)
    text = write_drawn(tmp_path).read_text().replace("multitask", "simclr").replace("warmup_steps = 2\n", "")
    path = tmp_path / "test_resnet.simclr_drawn.toml"
    path.write_text(
        f"{text}steps = 2\n".replace("steps = 12\n", "")
        + 'preset = "small"\n[objective]\nhidden = 16\noutputs = 8\n'
    )
    TASKS.update({name: dataclasses.replace(task, mpp=0.4) for name, task in DRAWN.items()})
    yield path
    for name in DRAWN:
        TASKS.pop(name)


def run(drawn: Path, **changes: Any) -> Path:
    where = {"data_root": drawn.parent / "data", "runs": drawn.parent / "runs", "device": "cpu"}
    return pretrain.run(drawn, **where, **changes)


def test_a_run_records_its_bounds_and_the_resolutions_that_they_were_taken_from(drawn: Path) -> None:
    folder = run(drawn, views={"mpp": [0.3, 0.5]})
    assert (folder / "final" / "DONE.json").exists()
    assert json.loads((folder / "experiment.json").read_text())["views"]["mpp"] == [0.3, 0.5]
    data = json.loads((folder / "data.json").read_text())
    assert {tuple(d["packed_mpp"]) for d in data.values()} == {(0.5, 0.5)}


@pytest.mark.parametrize(
    ("bounds", "mpp", "what"),
    [
        ([0.3, 0.5], None, "those of some training tiles are not known"),
        ([0.8, 0.9], 0.4, "no crop of the tile"),
    ],
)
def test_a_run_whose_tiles_cannot_be_bounded_is_refused_and_leaves_no_folder(
    drawn: Path, bounds: list[float], mpp: float | None, what: str
) -> None:
    TASKS["drawn_stroma"] = dataclasses.replace(DRAWN["drawn_stroma"], mpp=mpp)
    with pytest.raises(UsageError, match="HZ-U86") as caught:
        run(drawn, views={"mpp": bounds})
    assert what in caught.value.what and caught.value.next_step
    assert mpp or ("drawn_stroma" in caught.value.got and "drawn_nuclei" not in caught.value.got)
    assert not list((drawn.parent / "runs").glob("*drawn*"))


def test_a_source_without_a_resolution_is_named(drawn: Path) -> None:
    source = {"folder": "drawn_nuclei/images"}
    with pytest.raises(UsageError, match="HZ-U86") as caught:
        run(drawn, views={"mpp": [0.3, 0.5]}, unlabelled={"own": source, "other": {**source, "mpp": 0.4}})
    assert caught.value.got == "none of unlabelled.own"


def test_views_are_not_made_without_the_resolution_that_their_bounds_need() -> None:
    with pytest.raises(UsageError, match="HZ-U86 views cannot be bounded"):
        unlabelled_views(resolved("simclr", {"mpp": BOUNDS}))
