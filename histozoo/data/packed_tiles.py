"""Packed tiles in the endless order: each kept row once before any is shown again, another order each epoch.

Shapes: N packed tiles, K kept rows, px pixels.
"""

from __future__ import annotations

from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data.ordering import ORDER, generator


class PackedTiles:
    """Rows of an array of decoded tiles.

    Args:
        tiles_NHWC: uint8 `[N, px, px, 3]`, RGB; may be a memory map.
        rows_K: Rows that may be shown.
    """

    def __init__(self, tiles_NHWC: NDArray[np.uint8], rows_K: NDArray[np.int64]) -> None:
        self._tiles_NHWC, self._rows_K = tiles_NHWC, rows_K
        self._order: tuple[tuple[int, int, int], NDArray[np.int64]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is not forked maps the file again; pickled, every one would get a copy of all tiles.
        tiles_NHWC: Any = self._tiles_NHWC
        mapped = isinstance(tiles_NHWC, np.memmap) and isinstance(tiles_NHWC.base, mmap)
        return {**self.__dict__, **({"_tiles_NHWC": tiles_NHWC.filename} if mapped else {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored = state["_tiles_NHWC"]
        if not isinstance(stored, np.ndarray):
            stored = np.load(stored, mmap_mode="r", allow_pickle=False)
        self.__dict__.update(state, _tiles_NHWC=stored)

    @property
    def rows(self) -> int:
        """Number of tiles."""
        return len(self._rows_K)

    def place(self, position: int, seed: int, number: int) -> tuple[int]:
        """Returns the row of a position in the endless order of set `number`."""
        epoch, position = divmod(position, self.rows)
        key = (seed, number, epoch)
        if self._order is None or self._order[0] != key:
            self._order = key, generator(seed, ORDER + number, epoch).permutation(self._rows_K)
        return (int(self._order[1][position]),)

    def tile(self, at: tuple[int, ...]) -> NDArray[np.uint8]:
        """Returns the tile at a place as uint8 RGB `[px, px, 3]`."""
        return np.array(self._tiles_NHWC[at[0]])
