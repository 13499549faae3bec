"""Maps of attention: the right tile has the right colour, and tiles lie where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histozoo.errors import UsageError
from histozoo.evaluate.slides import heatmap


def weights(*powers: float) -> np.ndarray:
    raw = 2.0 ** np.asarray(powers)
    return raw / raw.sum()


def warmth(image: Image.Image, box: tuple[int, int, int, int]) -> float:
    """Returns mean red minus blue of a part."""
    pixels = np.asarray(image.crop(box), dtype=float).mean((0, 1))
    return float(pixels[0] - pixels[2])


def test_the_scale_runs_from_blue_through_grey_to_red_without_a_fold() -> None:
    scale = heatmap.colours(np.linspace(-1, 1, 101)).astype(float)
    warm, light = scale[:, 0] - scale[:, 2], scale.mean(1)
    assert (warm[:50] < 0).all() and warm[50] == 0 and (warm[51:] > 0).all()
    assert (np.diff(light[:51]) > 0).all() and (
        np.diff(light[50:]) < 0
    ).all()  # the further from even, the darker
    assert len(np.unique(scale, axis=0)) == 101


def test_on_a_slide_the_most_attended_tile_is_red_the_least_blue_and_the_rest_of_the_slide_untouched() -> (
    None
):
    slide = Image.new("RGB", (200, 100), (220, 150, 190))
    boxes = [
        (0, 0, 500, 500),
        (500, 0, 500, 500),
        (1500, 500, 500, 500),
    ]  # the slide is ten times its thumbnail
    drawn = heatmap.on_slide(slide, boxes, weights(3, 0, -3), slide_size=(2000, 1000))
    left, right = drawn.crop((16, 16, 216, 116)), drawn.crop((232, 16, 432, 116))
    assert np.array_equal(np.asarray(left), np.asarray(slide))
    assert warmth(right, (0, 0, 50, 50)) > 50
    assert warmth(right, (150, 50, 200, 100)) < -50
    assert warmth(right, (100, 0, 150, 50)) == 0  # no tile there: grey
    even = heatmap.on_slide(slide, boxes, np.full(3, 1 / 3), slide_size=(2000, 1000)).crop(
        (232, 16, 432, 116)
    )
    assert warmth(even, (0, 0, 200, 100)) == 0


def test_where_tiles_overlap_the_most_attended_is_on_top() -> None:
    slide = Image.new("RGB", (100, 100), "white")
    for order in ([0, 1], [1, 0]):
        boxes = [(0, 0, 60, 60), (30, 30, 60, 60)]
        drawn = heatmap.on_slide(
            slide, [boxes[i] for i in order], weights(2, 0)[order], slide_size=(100, 100)
        ).crop((132, 16, 232, 116))
        assert warmth(drawn, (35, 35, 55, 55)) > 50


def test_tiles_without_a_slide_lie_by_corner_by_picture_or_in_rows() -> None:
    xy = np.asarray([[512, 0], [0, 512], [0, 0]])
    assert heatmap._cells(3, [], xy).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert heatmap._cells(5, [], None).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1]]
    names = [f"{p}.jpg#xywh={x},{y},280,280" for p in "ab" for y in (0, 280) for x in (0, 280)]
    cells = heatmap._cells(8, names, None)
    assert cells[:4].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert (cells[4:] - cells[:4] == cells[4]).all() and cells[4][0] > 2 and cells[4][1] == 0
    tiles = np.zeros((8, 16, 16, 3), dtype=np.uint8)
    tiles[6] = 255
    drawn = heatmap.on_tiles(tiles, weights(*[0] * 7, 4), names=names, tile_px=20)
    x, y = (16 + round(v * 20) for v in cells[6])
    assert np.asarray(drawn.crop((x + 4, y + 4, x + 16, y + 16))).min() == 255


def test_a_drawing_is_a_png_of_some_colours(tmp_path: Path) -> None:
    tiles = np.full((9, 16, 16, 3), 128, dtype=np.uint8)
    heatmap.write(tmp_path / "map.png", heatmap.on_tiles(tiles, weights(*range(9)), title="s1, malignant"))
    with Image.open(tmp_path / "map.png") as image:
        assert image.format == "PNG" and image.mode == "RGB" and len(image.getcolors(1 << 20) or []) > 100


def test_what_cannot_be_drawn_is_refused() -> None:
    slide = Image.new("RGB", (10, 10))
    for boxes, given, code in (
        ([(0, 0, 5, 5)], np.asarray([0.5]), "HZ-I71 these are no attention weights"),
        ([(0, 0, 5, 5)], np.asarray([np.nan]), "HZ-I71 these are no attention weights"),
        ([], np.zeros(0), "HZ-I71 these are no attention weights"),
        ([(100, 0, 5, 5)], np.ones(1), "HZ-I71 a tile lies outside its slide"),
        ([(0, 0, 5, 5)], np.full(2, 0.5), "HZ-I64"),
    ):
        with pytest.raises(UsageError, match=code):
            heatmap.on_slide(slide, boxes, given, slide_size=(100, 100))
