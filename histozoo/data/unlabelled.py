"""Packed tiles without labels, and what all mixed sets share. How sets are mixed: `histozoo.data.streamed`.

Shapes: N tiles, px pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data.listing import tell_skipped
from histozoo.data.packed_tiles import PackedTiles
from histozoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TileSet:
    """Decoded tiles of one set.

    Args:
        tiles_NHWC: uint8, `[N, px, px, 3]`, RGB; may be a memory map.
        rows: Rows that may be drawn; of the training side where a set is split, and of `choose_rows`.
        weight: Its share of the samples, relative to the other sets; above 0.
    """

    tiles_NHWC: NDArray[np.uint8]
    rows: NDArray[np.int64]
    weight: float = 1.0

    def open(self, px: int) -> PackedTiles:
        """Returns the set for `histozoo.data.streamed`; raises `HZ-U86` where its tiles are not of `px` pixels."""
        if (size := self.tiles_NHWC.shape[1:3]) != (px, px):
            raise _refused(
                "tiles of different sizes cannot be in one batch", expected=f"{px} x {px} px", got=size
            )
        return PackedTiles(self.tiles_NHWC, self.rows)


def sample_generator(seed: int, index: int) -> np.random.Generator:
    """Returns the generator of one sample. Philox is counter-based: the key alone selects the stream, nothing is carried on."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))


def check_weights(weights: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    """Refuses what cannot be mixed.

    Raises:
        UsageError: `HZ-U86`, no set, a set without tiles, or a weight that is not a number above 0.
    """
    if empty := [name for name, n in sizes.items() if n == 0] or not sizes:
        got = "no set" if empty is True else ", ".join(empty)
        raise _refused("there is nothing to draw from", expected="at least one tile in each set", got=got)
    if wrong := {name: w for name, w in weights.items() if not (w > 0 and np.isfinite(w))}:
        raise _refused("a set cannot be mixed with this weight", expected="numbers above 0", got=wrong)


def as_dataset(source: Path) -> Any:
    """Returns the tiles of a folder or a table as `histozoo.data.tiles.pack` reads them: rows of one class, each tile its own group.

    Raises:
        UsageError: `HZ-U62`, no such source, or no tile in it.
    """
    import datasets

    from histozoo.data.feature import Tile
    from histozoo.tile_lists import find_tiles

    found = find_tiles(source)
    tell_skipped(source, found.skipped)
    names: Sequence[str] = found.names
    columns = {
        "image": [{"path": str(found.root / name), "bytes": None} for name in names],
        "label": [0] * len(names),
        "group": names,
        "file": names,
    }
    features = datasets.Features(
        image=Tile(),
        label=datasets.ClassLabel(names=["tile"]),
        group=datasets.Value("string"),
        file=datasets.Value("string"),
    )
    return datasets.Dataset.from_dict(columns, features=features)


def _refused(what: str, *, expected: object, got: object, where: object = "") -> UsageError:
    return UsageError("HZ-U86", what, where=where, expected=expected, got=got, kept="nothing was trained")
