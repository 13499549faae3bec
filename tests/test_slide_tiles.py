"""Tiles straight from slides: tissue alone, at the stated resolution, uniformly, and the same whoever reads them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from histozoo.data import slide_tiles, slide_tissue
from histozoo.data.slide_tiles import SlideSet, SlideTiles
from histozoo.data.streamed import StreamedTiles
from histozoo.data.tiles import fit
from histozoo.errors import UsageError
from tests.fakes.slides import pyramid, tissue_on_glass

pytest.importorskip("openslide")
HEIGHT, WIDTH, PX = 420, 610, 24
SLIDE_HWC, TISSUE_HW = tissue_on_glass(HEIGHT, WIDTH)
# Every pixel its own colour, so that a tile says where it comes from.
SLIDE_HWC = SLIDE_HWC - np.random.default_rng(1).integers(0, 20, SLIDE_HWC.shape, dtype=np.uint8)
HALF_HWC = np.asarray(Image.fromarray(SLIDE_HWC).reduce(2))


def written(folder: Path, name: str = "a.tif", **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    levels = options.pop("levels", [SLIDE_HWC, HALF_HWC])
    (folder / name).write_bytes(pyramid(levels, **options))
    return folder


def opened(folder: Path, px: int = PX, **options: Any) -> SlideTiles:
    return SlideSet(source=folder, **{"downsample": 1.0, **options}).open(px)


def refused(folder: Path, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        opened(folder, **options)
    return caught.value


def in_box(tissue_HW: np.ndarray, at: tuple[int, ...], side: int) -> float:
    _, left, top = at
    return float(tissue_HW[top : top + side, left : left + side].mean())


# -- where --


def test_positions_lie_on_tissue_uniformly_and_inside_the_slide(tmp_path: Path) -> None:
    tiles = opened(written(tmp_path / "s"))
    places = [tiles.place(i, 5, 0) for i in range(4000)]
    centres = np.array([(top + PX // 2, left + PX // 2) for _, left, top in places])
    assert TISSUE_HW[centres[:, 0], centres[:, 1]].mean() > 0.97
    for _, left, top in places:
        assert 0 <= left <= WIDTH - PX and 0 <= top <= HEIGHT - PX
    upper = TISSUE_HW[: HEIGHT // 2].sum() / TISSUE_HW.sum()
    assert abs((centres[:, 0] < HEIGHT // 2).mean() - upper) < 4 * (upper * (1 - upper) / 4000) ** 0.5
    lower = centres[centres[:, 0] >= HEIGHT // 2, 1]
    counts = np.histogram(lower, bins=9, range=(WIDTH // 2, WIDTH - WIDTH // 8))[0]
    expected = counts.sum() / 9
    assert ((counts - expected) ** 2 / expected).sum() < 26.1  # chi-square, 8 degrees of freedom, 99.9 %
    assert len(set(places)) > 3800


def test_tissue_at_the_border_of_a_slide_is_drawn_too(tmp_path: Path) -> None:
    slide = np.full((100, 120, 3), 240, np.uint8)
    slide[:30, :40] = (200, 110, 160)
    tiles = opened(written(tmp_path / "s", levels=[slide]))
    corners = {tiles.place(i, 0, 0)[1:] for i in range(3000)}
    assert min(corners) == (0, 0) and max(left for left, _ in corners) == 40 - PX // 2


@pytest.mark.parametrize("least", [0.5, 0.9, 1.0])
def test_positions_hold_the_tissue_that_is_asked_for(tmp_path: Path, least: float) -> None:
    tiles = opened(written(tmp_path / "s"), least_tissue=least)
    shares = [in_box(TISSUE_HW, tiles.place(i, 5, 0), PX) for i in range(500)]
    assert min(shares) >= least - 2 / PX and (min(shares) < 1 or least == 1)
    assert tiles.rows < opened(tmp_path / "s").rows


def test_slides_are_drawn_by_the_area_of_their_tissue(tmp_path: Path) -> None:
    """The second is scanned at half the resolution, so its pixels are four times as large, and it has a quarter of them."""
    written(tmp_path / "s", "a.tif", mpp=(0.5, 0.5))
    written(tmp_path / "s", "b.tif", levels=[HALF_HWC], mpp=(1.0, 1.0))
    small = np.full((200, 200, 3), 240, np.uint8)
    small[50:150, 50:150] = (205, 120, 170)
    written(tmp_path / "s", "c.tif", levels=[small], mpp=(0.5, 0.5))
    tiles = opened(tmp_path / "s", mpp=1.0, downsample=None)
    counts = np.bincount([tiles.place(i, 1, 0)[0] for i in range(4000)], minlength=3)
    area = float(TISSUE_HW.sum())
    shares = np.array([area, area, 10_000]) / (2 * area + 10_000)
    assert np.abs(counts / 4000 - shares).max() < 0.04
    assert tiles.rows == pytest.approx((2 * area + 10_000) / (2 * PX) ** 2, rel=0.05)


# -- what --


def test_a_tile_is_the_pixels_of_the_slide(tmp_path: Path) -> None:
    tiles = opened(written(tmp_path / "s"))
    for i in range(50):
        at = _, left, top = tiles.place(i, 5, 0)
        assert np.array_equal(tiles.tile(at), SLIDE_HWC[top : top + PX, left : left + PX])


@pytest.mark.parametrize(("mpp", "downsample"), [(1.0, None), (None, 2.0), (1.009, None), (0.992, None)])
def test_a_level_of_the_resolution_asked_for_is_read_as_it_is(
    tmp_path: Path, mpp: float | None, downsample: float | None
) -> None:
    tiles = opened(written(tmp_path / "s", mpp=(0.5, 0.5)), mpp=mpp, downsample=downsample)
    for i in range(50):
        at = _, left, top = tiles.place(i, 5, 0)
        y, x = round(top / 2), round(left / 2)
        assert np.array_equal(tiles.tile(at), HALF_HWC[y : y + PX, x : x + PX])


@pytest.mark.parametrize(("mpp", "level", "side"), [(0.75, 0, 36), (2.0, 1, 48), (0.25, 0, 12)])
def test_between_levels_the_finer_one_is_resized_as_other_tiles_are(
    tmp_path: Path, mpp: float, level: int, side: int
) -> None:
    tiles = opened(written(tmp_path / "s", mpp=(0.5, 0.5)), mpp=mpp, downsample=None)
    pixels, down = (SLIDE_HWC, HALF_HWC)[level], 2**level
    for i in range(20):
        at = _, left, top = tiles.place(i, 5, 0)
        y, x = round(top / down), round(left / down)
        expected = fit(Image.fromarray(pixels[y : y + side, x : x + side]), PX)
        assert np.array_equal(tiles.tile(at), expected) and expected.shape == (PX, PX, 3)


def test_f40_places_and_tiles_are_a_function_of_seed_and_position(tmp_path: Path) -> None:
    folder = written(tmp_path / "s")
    first, again = opened(folder), opened(folder, cache=tmp_path / "cache")
    order = np.random.default_rng(0).permutation(60)
    assert {i: again.place(i, 5, 0) for i in order.tolist()} == {i: first.place(i, 5, 0) for i in range(60)}
    assert first.place(7, 5, 0) != first.place(7, 6, 0) and first.place(7, 5, 0) != first.place(7, 5, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_f40_workers_read_what_one_reader_reads_also_after_it_has_read(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handles of OpenSlide do not outlive a fork; more slides than may be open at once."""
    monkeypatch.setattr(slide_tiles, "_OPEN_SLIDES", 2)
    for name in ("a.tif", "b.tif", "deep.tif"):
        written(tmp_path / "s", name)
    sets = {"s": SlideSet(source=tmp_path / "s", downsample=1.0, cache=tmp_path / "cache")}
    tiles = StreamedTiles(sets, seed=3, samples=40, px=PX, uniforms=2)
    whole = [tiles[i] for i in range(40)]
    assert len(tiles.sources[0]._open) == 2
    found = [t for b in DataLoader(tiles, batch_size=4, num_workers=workers) for t in b["tiles"]]
    assert all(torch.equal(t, one["tiles"]) for t, one in zip(found, whole, strict=True))
    assert torch.equal(pickle.loads(pickle.dumps(tiles))[9]["tiles"], whole[9]["tiles"])


def test_tissue_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache, looks = written(tmp_path / "s"), tmp_path / "cache", []
    real = slide_tissue._look
    monkeypatch.setattr(slide_tissue, "_look", lambda canvas: (looks.append(canvas), real(canvas))[1])
    first = [opened(folder, cache=cache).fingerprint for _ in range(2)]
    assert first[0] == first[1] and len(looks) == 1
    os.utime(folder / "a.tif")
    assert opened(folder, cache=cache).fingerprint == first[0] and len(looks) == 2
    written(folder, mpp=(0.5, 0.5))
    assert opened(folder, cache=cache).fingerprint != first[0] and len(looks) == 3


# -- what cannot be --


def test_slides_without_a_resolution_are_named(tmp_path: Path) -> None:
    written(tmp_path / "s", "a.tif", mpp=(0.5, 0.5))
    for name in ("b.tif", "c.tif"):
        written(tmp_path / "s", name)
    error = refused(tmp_path / "s", mpp=0.5, downsample=None)
    assert error.code == "HZ-U86" and error.what == "a slide does not say its resolution"
    assert error.where == f"{tmp_path / 's/b.tif'}; and 1 more: {tmp_path / 's/c.tif'}"
    assert "downsample" in error.expected


def test_broken_slides_are_named(tmp_path: Path) -> None:
    written(tmp_path / "s")
    (tmp_path / "s/b.svs").write_bytes(b"no slide")
    error = refused(tmp_path / "s")
    assert error.code == "HZ-D24" and error.where == str(tmp_path / "s/b.svs")
    table = tmp_path / "t.csv"
    table.write_text("file\ns/a.tif\ns/none.tif\n")
    error = refused(table)
    assert error.code == "HZ-D24" and error.where.endswith("s/none.tif") and "No such file" in error.got
    table.write_text("file\ns/a.tif\n")
    assert len(opened(table).slides) == 1


def test_slides_without_tissue_are_named(tmp_path: Path) -> None:
    glass = np.full((200, 300, 3), 240, np.uint8)
    written(written(tmp_path / "s"), "b.tif", levels=[glass])
    error = refused(tmp_path / "s")
    assert error.what == "the slide has no tissue to draw from" and error.where.endswith("b.tif")
    speck = glass.copy()
    speck[100:104, 100:104] = (205, 120, 170)
    written(tmp_path / "s", "b.tif", levels=[speck])
    assert len(opened(tmp_path / "s").slides) == 2
    assert refused(tmp_path / "s", least_tissue=0.5).where.endswith("b.tif")


@pytest.mark.parametrize(
    ("options", "mpp", "what"),
    [
        ({"px": 421}, None, "the slide is smaller than a tile"),
        ({"downsample": 30.0}, None, "the slide is smaller than a tile"),
        ({"downsample": 0.2}, None, "the slide is too coarse for these tiles"),
        ({"mpp": 0.1, "downsample": None}, (0.5, 0.5), "the slide is too coarse for these tiles"),
        ({"mpp": 0.5, "downsample": None}, (0.5, 0.52), "a slide's pixels are not square"),
        ({"mpp": 0.5}, None, "slides want a resolution to be read at"),
        ({"downsample": None}, None, "slides want a resolution to be read at"),
        ({"downsample": 0.0}, None, "slides want a resolution to be read at"),
        ({"downsample": float("nan")}, None, "slides want a resolution to be read at"),
    ],
)
def test_a_resolution_or_a_size_that_cannot_be_is_refused(
    tmp_path: Path, options: dict[str, Any], mpp: tuple[float, float] | None, what: str
) -> None:
    error = refused(written(tmp_path / "s", mpp=mpp), **options)
    assert (error.code, error.what) == ("HZ-U86", what) and str(tmp_path / "s") in error.where


def test_a_folder_without_slides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    assert refused(tmp_path).got == "1 other files"
    assert refused(tmp_path / "none").got == "no such folder"


def test_d24_a_damaged_place_is_named_and_others_are_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = opened(written(tmp_path / "s"))
    written(tmp_path / "s", lost=(0, 11))
    with pytest.raises(UsageError, match="HZ-D24") as caught:
        tiles.tile((0, 70, 70))
    assert "a.tif, 24 x 24 px at 70, 70 of level 0" in caught.value.where
    assert np.array_equal(tiles.tile((0, 10, 10)), SLIDE_HWC[10 : 10 + PX, 10 : 10 + PX])


# -- real slides --


def real_slides() -> Path:
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("HISTOZOO_DATA") or beside) / "wsi_tiny" / "images"
    if not folder.is_dir():
        pytest.skip("the real slides are not here: set HISTOZOO_DATA to the folder of wsi_tiny")
    return folder


def test_real_slides_are_drawn_from_by_mpp_where_they_say_it(tmp_path: Path) -> None:
    from histozoo.data.choosing import tissue_share

    error = refused(real_slides(), mpp=0.5, downsample=None, px=64, cache=tmp_path)
    assert error.what == "a slide does not say its resolution" and "tcga" in error.where
    table = tmp_path / "t.csv"
    (tmp_path / "slide.svs").symlink_to(real_slides() / "cmu-1-small-region.svs")
    table.write_text("file\nslide.svs\n")
    tiles = opened(table, mpp=1.0, downsample=None, px=64, least_tissue=0.5)
    shown = np.stack([tiles.tile(tiles.place(i, 0, 0)) for i in range(20)])
    assert tissue_share(shown).min() > 0.1 and len(np.unique(shown.mean(axis=(1, 2, 3)))) == 20


def test_real_slides_are_drawn_from_by_downsampling(tmp_path: Path) -> None:
    import openslide

    tiles = opened(real_slides(), downsample=2.0, px=64, cache=tmp_path, least_tissue=0.25)
    places = [tiles.place(i, 0, 0) for i in range(12)]
    assert {which for which, _, _ in places} == {0, 1}
    for which, left, top in places:
        slide = openslide.OpenSlide(tiles.slides[which].slide.path)
        level = which  # the second slide alone has a level of half the size
        down = slide.level_downsamples[level]
        corner = (round(round(left / down) * down), round(round(top / down) * down))
        side = round(128 / down)
        expected = fit(slide.read_region(corner, level, (side, side)).convert("RGB"), 64)
        assert np.array_equal(tiles.tile((which, left, top)), expected)
