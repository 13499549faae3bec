"""Whole slides: boxes are those of the finest level, glass where nothing was scanned, and tissue is found without decoding the slide."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo.errors import UsageError
from histozoo.prepare import slides
from histozoo.prepare.canvases import SlideCanvas, tissue_area
from histozoo.prepare.slides import TissueArea, otsu
from histozoo.prepare.sources import Source, open_source
from tests.fakes.archives import zip_bytes
from tests.fakes.slides import pyramid, tissue_on_glass

pytest.importorskip("openslide")
HEIGHT, WIDTH = 420, 610
SLIDE_HWC, TISSUE_HW = tissue_on_glass(HEIGHT, WIDTH)
HALF_HWC = np.asarray(Image.fromarray(SLIDE_HWC).reduce(2))


def written(folder: Path, data: bytes) -> Source:
    (folder / "x.zip").write_bytes(zip_bytes({"training/tumor_001.tif": data}))
    return open_source(folder / "x.zip", scratch=folder / "scratch")


@pytest.fixture
def slide(tmp_path: Path) -> SlideCanvas:
    return SlideCanvas.read(written(tmp_path, pyramid([SLIDE_HWC, HALF_HWC])), "training/tumor_001.tif")


def pixels(image: Image.Image) -> Any:
    assert image.mode == "RGB"
    return np.asarray(image)


def test_boxes_are_pixels_of_the_finest_level(slide: SlideCanvas) -> None:
    assert slide.size == (WIDTH, HEIGHT) and [size for size, _ in slide.levels()] == [(610, 420), (305, 210)]
    for box in ((0, 0, WIDTH, HEIGHT), (60, 60, 70, 135), (WIDTH - 9, HEIGHT - 8, WIDTH, HEIGHT)):
        left, top, right, bottom = box
        assert np.array_equal(pixels(slide.crop(box)), SLIDE_HWC[top:bottom, left:right])


def test_a_box_outside_is_refused_and_what_was_not_scanned_is_white(slide: SlideCanvas) -> None:
    for box in ((0, 0, WIDTH + 1, 9), (-1, 0, 9, 9), (9, 9, 9, 10)):
        with pytest.raises(UsageError) as caught:
            slide.crop(box)
        assert caught.value.code == "HZ-D27" and "tumor_001.tif" in caught.value.where
    found = pixels(slide.region((WIDTH - 5, HEIGHT - 5), 0, (10, 10)))
    assert np.array_equal(found[:5, :5], SLIDE_HWC[-5:, -5:]) and (found[5:] == 255).all()
    assert (found[:, 5:] == 255).all()


def test_d29_partial_alpha_is_composited_on_white(
    slide: SlideCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Image.new("RGBA", (8, 8), (200, 0, 100, 128))
    half.paste((200, 0, 100, 0), (0, 0, 4, 8))
    monkeypatch.setattr(slide, "_slide", type("Fake", (), {"read_region": lambda *_: half}))
    found = pixels(slide.crop((0, 0, 8, 8)))
    assert (found[:, :4] == 255).all() and np.abs(found[0, 7].astype(int) - (227, 127, 177)).max() <= 1


def test_d24_a_damaged_region_does_not_spoil_the_others(tmp_path: Path) -> None:
    """OpenSlide's handle refuses everything after its first error; it is opened again."""
    source = written(tmp_path, pyramid([SLIDE_HWC, HALF_HWC], lost=(0, 11)))
    slide = SlideCanvas.read(source, "training/tumor_001.tif")
    for _ in range(2):
        with pytest.raises(UsageError) as caught:
            slide.crop((70, 70, 80, 80))
        assert caught.value.code == "HZ-D24" and "10 x 10 px at 70, 70 of level 0" in caught.value.where
        assert np.array_equal(pixels(slide.crop((0, 0, 60, 60))), SLIDE_HWC[:60, :60])


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"II*\0" + bytes(40), pyramid([SLIDE_HWC])[: 3 * HEIGHT * WIDTH]]
)
def test_d24_what_openslide_does_not_read_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    source = written(tmp_path, data)
    with pytest.raises(UsageError) as caught:
        SlideCanvas.read(source, "training/tumor_001.tif")
    assert caught.value.code == "HZ-D24" and caught.value.where == f"{source.where}, training/tumor_001.tif"


def test_openslide_missing_is_said_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(UsageError) as caught:
        SlideCanvas(tmp_path / "x.tif")
    assert caught.value.code == "HZ-U76" and caught.value.next_step == "pip install 'histozoo[wsi]'"


# -- tissue ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thumbnail_px", [1024, 300, 100])
def test_tissue_is_found_where_it_is(slide: SlideCanvas, thumbnail_px: int) -> None:
    area = tissue_area(slide, thumbnail_px=thumbnail_px)
    assert area.size == slide.size and max(area.mask_HW.shape) <= thumbnail_px
    wrong = (area.mask((0, 0, WIDTH, HEIGHT)) != TISSUE_HW).mean()
    assert wrong <= 0.005 * area.scale
    assert area.holds(WIDTH // 4, HEIGHT // 4) and not area.holds(WIDTH - 2, 2)
    assert area.fraction((WIDTH // 6, HEIGHT // 6, WIDTH // 5, HEIGHT // 5)) == 1


def test_a_slide_without_a_pyramid_is_looked_at_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slides, "_READ_PX", 128)
    source = written(tmp_path, pyramid([SLIDE_HWC]))
    slide = SlideCanvas.read(source, "training/tumor_001.tif")
    sizes, region = [], slide.region

    def watched(corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        sizes.append(size)
        return region(corner, level, size)

    monkeypatch.setattr(slide, "region", watched)
    area = tissue_area(slide, thumbnail_px=200)
    assert len(sizes) >= 12 and max(max(size) for size in sizes) <= 128
    assert (area.mask((0, 0, WIDTH, HEIGHT)) != TISSUE_HW).mean() <= 0.02


def test_glass_alone_has_no_tissue(tmp_path: Path) -> None:
    glass = np.full((200, 300, 3), 240, np.uint8) + np.random.default_rng(1).integers(
        0,
        3,
        (200, 300, 3),
        dtype=np.uint8,  # of each colour: a little saturation
    )
    slide = SlideCanvas.read(written(tmp_path, pyramid([glass])), "training/tumor_001.tif")
    assert tissue_area(slide).fraction((0, 0, 300, 200)) == 0


def test_the_fraction_of_tissue_is_the_mean_of_its_mask() -> None:
    rng = np.random.default_rng(3)
    for scale in (1.0, 2.0, 7.0, 2.0005, 16.02):
        mask_HW = rng.random((30, 40)) < 0.4
        size = (int(40 * scale), int(30 * scale))
        area = TissueArea(mask_HW, scale, size)
        for _ in range(20):
            left, right = sorted(rng.choice(size[0] + 1, 2, replace=False).tolist())
            top, bottom = sorted(rng.choice(size[1] + 1, 2, replace=False).tolist())
            box = (left, top, right, bottom)
            assert area.fraction(box) == pytest.approx(area.mask(box).mean(), abs=1e-12)


def test_tissue_refuses_a_box_outside_the_slide() -> None:
    area = TissueArea(np.ones((3, 4), bool), 10.0, (40, 30))
    with pytest.raises(UsageError) as caught:
        area.fraction((0, 0, 41, 30))
    assert caught.value.code == "HZ-U71"


def test_otsu_splits_where_the_variance_between_is_largest() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = np.clip(np.concatenate([rng.normal(60, 9, 400), rng.normal(150, 20, 200)]), 0, 255).astype(
            np.uint8
        )

        def between(t: int, values: Any = values) -> float:
            low, high = values[values <= t], values[values > t]
            return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

        assert between(otsu(values)) == pytest.approx(max(between(t) for t in range(256)))
    assert otsu(np.full(9, 77, np.uint8)) == 0


# -- real slides -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_real_slides_are_read_as_openslide_reads_them(name: str, tmp_path: Path) -> None:
    import openslide

    beside = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("HISTOZOO_DATA") or beside) / "wsi_tiny"
    if not folder.is_dir():
        pytest.skip("the real slides are not here: set HISTOZOO_DATA to the folder of wsi_tiny")
    source = open_source(folder, scratch=tmp_path)
    slide = SlideCanvas.read(source, source.one(name))
    with openslide.OpenSlide(folder / "images" / name) as reference:
        assert slide.size == reference.dimensions
        expected = np.asarray(reference.read_region((500, 700), 0, (256, 256)))
    assert (expected[:, :, 3] == 255).all()
    assert np.array_equal(pixels(slide.crop((500, 700, 756, 956))), expected[:, :, :3])
    area = tissue_area(slide)
    assert 0.2 < area.fraction((0, 0, *slide.size)) < 0.95
    assert not (tmp_path / "scratch").exists()
