"""CKA of blocks against blocks as a picture: a square per pair, darker for less alike, its value written into it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from histozoo import durable
from histozoo.evaluate.cka import Similarity

# Lightness rises evenly from 0 to 1, so that the order of values survives grey printing and colour blindness.
_COLOURS = (
    (0.0, (26, 20, 70)),
    (0.35, (96, 40, 118)),
    (0.6, (186, 66, 96)),
    (0.8, (238, 132, 60)),
    (1.0, (252, 230, 150)),
)
_MARGIN, _BAR, _INK, _PAPER = 14, 16, (20, 20, 20), (255, 255, 255)


def colour(value: float) -> tuple[int, int, int]:
    """Returns the colour of a CKA; below 0 (chance, unbiased) as 0."""
    places = [place for place, _ in _COLOURS]
    red, green, blue = (round(float(np.interp(value, places, [c[i] for _, c in _COLOURS]))) for i in range(3))
    return red, green, blue


def picture(
    found: Similarity, *, left: str = "left", right: str = "right", title: str = "", cell_px: int = 46
) -> Image.Image:
    """Returns the matrix as an RGB picture: left blocks downwards, right blocks to the right, both from the input on.

    Args:
        found: From `cka.similarity`.
        left: What the left model is called.
        right: What the right one is called.
        title: Written above.
        cell_px: Side of a square.
    """
    font_px = max(10, cell_px // 4)
    font = ImageFont.load_default(size=font_px)
    names = max(_width(font, name) for name in found.left) + _MARGIN
    heads = max(_width(font, name) for name in found.right) + _MARGIN
    rows, columns = found.values_LM.shape
    line = font_px + 8
    x0, y0 = _MARGIN + line + names, _MARGIN + (line if title else 0) + line + heads
    across = max(columns * cell_px, _width(font, title) - x0, _width(font, right))
    size = (x0 + across + 4 * _MARGIN + _BAR + 3 * font_px, y0 + rows * cell_px + line + _MARGIN)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=font)
    draw.text((x0, y0 - heads - line), right, fill=_INK, font=font)
    _upright(image, left, (_MARGIN, y0), font, above=False)
    for j, name in enumerate(found.right):
        _upright(image, name, (x0 + j * cell_px + (cell_px - line) // 2, y0), font, above=True)
    for i, name in enumerate(found.left):
        at = (x0 - 6, y0 + i * cell_px + cell_px // 2)
        draw.text(at, name, fill=_INK, font=font, anchor="rm")
        for j in range(columns):
            _cell(draw, float(found.values_LM[i, j]), (x0 + j * cell_px, y0 + i * cell_px), cell_px, font)
    _bar(draw, (x0 + columns * cell_px + 2 * _MARGIN, y0), rows * cell_px, font)
    kind = "unbiased" if found.unbiased else "biased"
    draw.text((x0, y0 + rows * cell_px + 6), f"linear CKA, {kind}, {found.n:,} tiles", fill=_INK, font=font)
    return image


def save_picture(path: str | Path, image: Image.Image) -> None:
    """Writes a picture as PNG, durably.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    durable.write_bytes(path, buffer.getvalue())


def _width(font: Any, text: str) -> int:
    return int(np.ceil(font.getlength(text)))


def _cell(draw: ImageDraw.ImageDraw, value: float, at: tuple[int, int], side: int, font: Any) -> None:
    x, y = at
    fill = colour(value)
    draw.rectangle((x, y, x + side - 2, y + side - 2), fill=fill)
    bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 128
    middle = (x + side // 2 - 1, y + side // 2 - 1)
    draw.text(middle, f"{value:.2f}", fill=_INK if bright else _PAPER, font=font, anchor="mm")


def _upright(image: Image.Image, text: str, at: tuple[int, int], font: Any, *, above: bool) -> None:
    """Writes text from below upwards, ending above the point or beginning below it."""
    strip = Image.new("RGB", (_width(font, text) + 4, font.size + 8), _PAPER)
    ImageDraw.Draw(strip).text((2, 2), text, fill=_INK, font=font)
    turned = strip.transpose(Image.Transpose.ROTATE_90)
    image.paste(turned, (at[0], at[1] - turned.height - 4 if above else at[1]))


def _bar(draw: ImageDraw.ImageDraw, at: tuple[int, int], height: int, font: Any) -> None:
    x, y = at
    for i in range(height):
        draw.line((x, y + i, x + _BAR, y + i), fill=colour(1 - i / max(1, height - 1)))
    for value in (0.0, 0.5, 1.0):
        draw.text(
            (x + _BAR + 5, y + (1 - value) * (height - 1)), f"{value:g}", fill=_INK, font=font, anchor="lm"
        )
