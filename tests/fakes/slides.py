"""A tiny pyramid that OpenSlide reads: a tiled TIFF without compression, written by hand, whole or with one damaged tile; with or without
a resolution."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TILE_PX = 64
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_CENTIMETRE = 3


def pyramid(
    levels_HWC: Sequence[NDArray[np.uint8]],
    *,
    lost: tuple[int, int] | None = None,
    mpp: tuple[float, float] | None = None,
) -> bytes:
    """Returns the file, the finest level first.

    Args:
        levels_HWC: Pixels of each level.
        lost: Level and tile whose bytes lie behind the end of the file.
        mpp: Micrometres per pixel of the finest level, across and down; the file does not say where it is None.
    """
    data, blocks, directories = bytearray(b"II*\0\0\0\0\0"), [], []
    for number, level_HWC in enumerate(levels_HWC):
        tiles = _tiles(level_HWC)
        offsets = []
        for tile in tiles:
            offsets.append(len(data))
            data += tile
        if lost is not None and lost[0] == number:
            offsets[lost[1]] = 1 << 30
        blocks.append((level_HWC.shape, offsets, [len(tile) for tile in tiles]))
    for number, (shape, offsets, lengths) in enumerate(blocks):
        height, width = shape[:2]
        arrays = {258: (_SHORT, (8, 8, 8)), 324: (_LONG, offsets), 325: (_LONG, lengths)}
        single = {254: (_LONG, int(number > 0)), 256: (_LONG, width), 257: (_LONG, height), 259: (_SHORT, 1)}
        single |= {262: (_SHORT, 2), 277: (_SHORT, 3), 284: (_SHORT, 1)}
        single |= {322: (_LONG, TILE_PX), 323: (_LONG, TILE_PX)}
        single |= {296: (_SHORT, _CENTIMETRE)} if mpp else {}
        entries = {tag: (kind, 1, struct.pack("<I", value)) for tag, (kind, value) in single.items()}
        for tag, size in zip((282, 283), mpp or (), strict=False):
            entries[tag] = (_RATIONAL, 1, struct.pack("<I", len(data)))
            data += struct.pack("<II", 10_000_000, round(1000 * size * 2**number))
        for tag, (kind, values) in arrays.items():
            packed = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
            if len(packed) > 4:
                entries[tag] = (kind, len(values), struct.pack("<I", len(data)))
                data += packed
            else:
                entries[tag] = (kind, len(values), packed.ljust(4, b"\0"))
        directories.append((len(data), len(entries)))
        data += struct.pack("<H", len(entries))
        for tag in sorted(entries):
            kind, n, value = entries[tag]
            data += struct.pack("<HHI", tag, kind, n) + value
        data += bytes(4)
    struct.pack_into("<I", data, 4, directories[0][0])
    for (at, n), (following, _) in itertools.pairwise(directories):
        struct.pack_into("<I", data, at + 2 + 12 * n, following)
    return bytes(data)


def _tiles(level_HWC: NDArray[np.uint8]) -> list[bytes]:
    height, width = level_HWC.shape[:2]
    rows, columns = -(-height // TILE_PX), -(-width // TILE_PX)
    full = np.zeros((rows * TILE_PX, columns * TILE_PX, 3), np.uint8)
    full[:height, :width] = level_HWC
    return [
        full[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX].tobytes()
        for y in range(rows)
        for x in range(columns)
    ]


def tissue_on_glass(height: int, width: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Returns a slide with two pieces of pink tissue on grey-white glass, with noise, and where the tissue is."""
    rng = np.random.default_rng(seed)
    tissue = np.zeros((height, width), bool)
    tissue[height // 8 : height // 2, width // 8 : width // 3] = True
    tissue[height // 2 : -height // 8, width // 2 : -width // 8] = True
    colours = np.where(tissue[:, :, None], (205, 120, 170), (240, 240, 241))
    noise = rng.integers(-3, 4, (height, width, 1))
    return np.clip(colours + noise, 0, 255).astype(np.uint8), tissue
