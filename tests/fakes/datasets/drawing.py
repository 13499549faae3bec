"""Small pictures for the fakes of datasets; the same numbers give the same bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Size = tuple[int, int]


class Fact(NamedTuple):
    """What a layout must say of one picture."""

    group: str
    label: str = ""
    split: str = ""


def image(rng: np.random.Generator, size: Size) -> Image.Image:
    """Returns an RGB image of one colour with one darker block, so that no two are equal."""
    pixels_HWC = np.full((size[1], size[0], 3), rng.integers(150, 250, 3), np.uint8)
    left, top = (int(rng.integers(0, side)) for side in size)
    pixels_HWC[top : top + 8, left : left + 8] = rng.integers(0, 140, 3)
    return Image.fromarray(pixels_HWC)


def save(path: Path, picture: Image.Image) -> None:
    """Writes an image as its suffix says, with its folders; TIFF is compressed without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **({"compression": "tiff_deflate"} if path.suffix in (".tif", ".tiff") else {}))


def save_mask(path: Path, mask_HW: NDArray[Any]) -> None:
    """Writes a mask as 8-bit PNG with 255 where it is true."""
    save(path, Image.fromarray(np.where(mask_HW, 255, 0).astype(np.uint8)))


def save_slide(path: Path, pixels_HWC: NDArray[np.uint8], *, tile: int = 256) -> None:
    """Writes a tiled TIFF of one level, uncompressed, as OpenSlide reads it; sides are filled up with white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels_HWC.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    full_HWC = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    full_HWC[:height, :width] = pixels_HWC
    tiles = [
        full_HWC[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile].tobytes()
        for y in range(rows)
        for x in range(columns)
    ]
    n, bits, places = len(tiles), 8, 14
    sizes = places + 4 * len(tiles)
    directory = sizes + 4 * n
    first = directory + 2 + 12 * 12 + 4
    tags = (
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (284, 3, 1, 1),
        (322, 4, 1, tile),
        (323, 4, 1, tile),
        (324, 4, n, places if n > 1 else first),
        (325, 4, n, sizes if n > 1 else len(tiles[0])),
        (339, 3, 1, 1),
    )
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI3H", b"II", 42, directory, 8, 8, 8))
        file.write(struct.pack(f"<{n}I", *(first + k * len(tiles[0]) for k in range(n))))
        file.write(struct.pack(f"<{n}I", *(len(one) for one in tiles)))
        file.write(struct.pack("<H", len(tags)))
        file.writelines(struct.pack("<HHII", *tag) for tag in tags)
        file.write(struct.pack("<I", 0))
        file.writelines(tiles)
