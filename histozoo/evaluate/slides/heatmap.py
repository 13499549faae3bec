"""Attention drawn: the slide beside the same slide in grey, its tiles tinted by their weight, with the scale below.

A weight is shown as a multiple of the even weight 1 / T, on a logarithmic scale: grey is even, blue less, red more. Bags of different sizes
can so be compared, and one tile that takes all does not turn every other one black. Pillow and numpy only.

Shapes: T tiles, H W pixels, C channels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from histozoo import durable
from histozoo.errors import UsageError
from histozoo.evaluate.slides.bag_files import split_corner
from histozoo.evaluate.statistics import same_rows

Boxes = Sequence[tuple[float, float, float, float]]

_ANCHORS = ((16, 58, 130), (74, 134, 196), (214, 214, 214), (232, 120, 72), (150, 12, 24))
"""From 2^-r through even to 2^r times the even weight; told apart by the colour-blind, too."""

_TINT, _GAP, _FOOT, _GAP_PICTURES = 0.62, 16, 66, 12
_LARGEST, _SMALLEST = 6.0, 1.0  # powers of two at the ends of the scale, at most and at least


def on_slide(
    thumbnail: Image.Image,
    boxes: Boxes,
    attention_T: NDArray[np.floating],
    *,
    slide_size: tuple[int, int],
    title: str = "",
) -> Image.Image:
    """Returns the drawing of a slide.

    Args:
        thumbnail: The slide, RGB, of any size.
        boxes: left, top, width, height of each tile in pixels of the whole slide.
        attention_T: Weights, sum 1.
        slide_size: Width and height of the whole slide in pixels.
        title: A line above the scale.

    Raises:
        UsageError: `HZ-I64` not one weight per box; `HZ-I71` no tile, weights that do not sum to 1, or a tile outside the slide.
    """
    same_rows(len(boxes), len(attention_T), "attention weights")
    weights_T = _checked(attention_T)
    scale = thumbnail.width / slide_size[0], thumbnail.height / slide_size[1]
    placed = [_placed(box, slide_size, scale) for box in boxes]
    powers_T = np.log2(np.maximum(weights_T * len(weights_T), 2.0**-60))
    reach = min(_LARGEST, max(_SMALLEST, math.ceil(float(np.abs(powers_T).max()))))
    tinted = _tinted(thumbnail.convert("RGB"), placed, np.clip(powers_T / reach, -1, 1))
    return _page(thumbnail.convert("RGB"), tinted, reach, title or f"{len(weights_T):,} tiles")


def on_tiles(
    tiles_THWC: NDArray[np.uint8],
    attention_T: NDArray[np.floating],
    *,
    names: Sequence[str] = (),
    xy_T2: NDArray[np.int64] | None = None,
    tile_px: int = 48,
    title: str = "",
) -> Image.Image:
    """Returns the drawing of a bag whose slide is not at hand: its tiles laid out, then as `on_slide`.

    Args:
        tiles_THWC: uint8 RGB tiles of one size.
        attention_T: Weights, sum 1.
        names: Names of the tiles; those of one picture are laid out by the corners that the names hold, pictures side by side.
        xy_T2: Corners in the slide, which go before names; without either the tiles fill rows in their order.
        tile_px: Side of a drawn tile in pixels.
        title: A line above the scale.

    Raises:
        UsageError: As `on_slide`.
    """
    same_rows(len(tiles_THWC), len(attention_T), "attention weights")
    _checked(attention_T)
    cells = _cells(len(tiles_THWC), names, xy_T2)
    placed_T2 = np.round(cells * tile_px).astype(int)
    width, height = (placed_T2.max(0) + tile_px).tolist()
    canvas = Image.new("RGB", (width, height), "white")
    for tile_HWC, (x, y) in zip(tiles_THWC, placed_T2.tolist(), strict=True):
        canvas.paste(Image.fromarray(tile_HWC).resize((tile_px, tile_px), Image.Resampling.BICUBIC), (x, y))
    boxes = [(x, y, tile_px, tile_px) for x, y in placed_T2.tolist()]
    return on_slide(canvas, boxes, attention_T, slide_size=(width, height), title=title)


def write(path: str | Path, drawing: Image.Image) -> None:
    """Writes a drawing as PNG, durably.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG", optimize=True)
    durable.write_bytes(path, buffer.getvalue())


# -- where tiles go --------------------------------------------------------------------------------------------------------------------


def _cells(n: int, names: Sequence[str], xy_T2: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Returns the place of each tile in units of a tile."""
    if xy_T2 is not None and bool((xy_T2 >= 0).all()):
        return _grid(np.asarray(xy_T2))
    split = [split_corner(name) for name in names]
    if len(split) != n or any(corner is None for _, corner in split):
        columns = math.ceil(math.sqrt(n))
        return np.stack([np.arange(n) % columns, np.arange(n) // columns], 1).astype(np.float64)
    pictures = list(dict.fromkeys(picture for picture, _ in split))
    blocks = {p: np.flatnonzero([picture == p for picture, _ in split]) for p in pictures}
    cells_T2 = np.zeros((n, 2))
    for rows in blocks.values():
        cells_T2[rows] = _grid(np.asarray([split[r][1] for r in rows]))
    side = cells_T2.max(0) + 1 + _GAP_PICTURES / 48
    columns = math.ceil(math.sqrt(len(pictures)))
    for number, rows in enumerate(blocks.values()):
        cells_T2[rows] += side * (number % columns, number // columns)
    return cells_T2


def _grid(xy_T2: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns corners in units of the smallest step between them, from 0 on."""
    steps = np.concatenate([np.diff(np.unique(xy_T2[:, axis])) for axis in (0, 1)])
    step = float(steps.min()) if len(steps) else 1.0
    cells_T2: NDArray[np.float64] = (xy_T2 - xy_T2.min(0)) / step
    return cells_T2


def _checked(attention_T: NDArray[np.floating]) -> NDArray[np.float64]:
    weights_T = np.asarray(attention_T, dtype=np.float64)
    if not len(weights_T) or not (weights_T >= 0).all() or abs(weights_T.sum() - 1) > 1e-3:
        raise UsageError(
            "HZ-I71",
            "these are no attention weights of a bag",
            expected="at least one tile, weights of at least 0 that sum to 1",
            got=f"{len(weights_T)} weights with sum {weights_T.sum():.4g}",
        )
    return weights_T


def _placed(
    box: tuple[float, float, float, float], slide_size: tuple[int, int], scale: tuple[float, float]
) -> tuple[int, int, int, int]:
    left, top, width, height = box
    inside = 0 <= left < slide_size[0] and 0 <= top < slide_size[1] and width > 0 and height > 0
    if not inside:
        raise UsageError(
            "HZ-I71",
            "a tile lies outside its slide",
            expected=f"a box that begins inside {slide_size[0]:,} x {slide_size[1]:,} px",
            got=f"left {left:g}, top {top:g}, width {width:g}, height {height:g}",
            next_step="give corners in pixels of the whole slide, level 0",
        )
    x, y = round(left * scale[0]), round(top * scale[1])
    return x, y, max(x + 1, round((left + width) * scale[0])), max(y + 1, round((top + height) * scale[1]))


# -- drawing ---------------------------------------------------------------------------------------------------------------------------


def colours(level_T: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Returns RGB `[T, 3]` for levels from -1 (least) through 0 (even) to 1 (most)."""
    at = np.linspace(-1, 1, len(_ANCHORS))
    channels = [np.interp(level_T, at, [anchor[c] for anchor in _ANCHORS]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _tinted(
    slide: Image.Image, boxes: Sequence[tuple[int, int, int, int]], level_T: NDArray[np.float64]
) -> Image.Image:
    """Returns the slide in grey with its tiles tinted, the most attended drawn last where tiles overlap."""
    pixels_HWC = np.asarray(slide.convert("L").convert("RGB"), dtype=np.float64) * 0.6 + 255 * 0.4
    grey_HWC = pixels_HWC.copy()
    tints_T3 = colours(level_T).astype(np.float64)
    for t in np.argsort(level_T, kind="stable"):
        x0, y0, x1, y1 = boxes[t]
        pixels_HWC[y0:y1, x0:x1] = (1 - _TINT) * grey_HWC[y0:y1, x0:x1] + _TINT * tints_T3[t]
    return Image.fromarray(pixels_HWC.round().astype(np.uint8))


def _page(slide: Image.Image, tinted: Image.Image, reach: float, title: str) -> Image.Image:
    width = max(2 * slide.width + 3 * _GAP, 420)
    page = Image.new("RGB", (width, slide.height + 2 * _GAP + _FOOT), "white")
    page.paste(slide, (_GAP, _GAP))
    page.paste(tinted, (2 * _GAP + slide.width, _GAP))
    _scale(page, top=slide.height + 2 * _GAP, reach=reach, title=title)
    return page


def _scale(page: Image.Image, *, top: int, reach: float, title: str) -> None:
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    length = min(360, page.width - 2 * _GAP)
    draw.text((_GAP, top), f"{title}; attention as a multiple of the even weight", "black", font)
    # Blended as tiles are, with the grey of tissue of middle brightness, so that the eye finds the same colours in both.
    mixed = _TINT * colours(np.linspace(-1, 1, length)).astype(np.float64) + (1 - _TINT) * 190
    bar_LC = mixed.round().astype(np.uint8)
    page.paste(Image.fromarray(np.repeat(bar_LC[None], 14, 0)), (_GAP, top + 20))
    powers = sorted({-reach, -reach / 2, 0.0, reach / 2, reach})
    for power in powers:
        x = _GAP + (power / reach + 1) / 2 * (length - 1)
        draw.line([(x, top + 34), (x, top + 38)], "black")
        word = _word(power)
        draw.text(
            (min(max(x - draw.textlength(word, font) / 2, 2), page.width - 40), top + 40), word, "black", font
        )


def _word(power: float) -> str:
    value = 2.0**power
    return f"{value:.3g} x" if value >= 1 else f"1/{1 / value:.3g} x"
