"""Micrometres per pixel of packed tiles: what a set's files have, times how far their shorter sides were resized.

Read from headers, and only where an experiment bounds the resolution of its views.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from histozoo.data import kept
from histozoo.data.decoding import size
from histozoo.data.ordering import Shards

if TYPE_CHECKING:
    from datasets import Dataset

Span = tuple[float, float]
"""Finest and coarsest, in micrometres per pixel."""


def of_tiles(dataset: Dataset, *, mpp: float, px: int) -> Span:
    """Returns the resolutions of a data set's tiles once they are packed.

    Args:
        dataset: Rows with `image`, as `histozoo.data.tiles.pack` takes them.
        mpp: Of the files as they are.
        px: Side of the packed tiles.

    Raises:
        UsageError: `HZ-D24`, `HZ-D27`, a file that cannot be read or is no tile.
    """
    from histozoo.data.feature import split_fragment

    def sides() -> Iterable[int]:
        for stored in dataset.with_format("arrow")[:]["image"].to_pylist():
            path, box = split_fragment(stored["path"]) if stored["bytes"] is None else ("", None)
            yield min(box[2] - box[0], box[3] - box[1]) if box else min(size(path or stored["bytes"]))

    return _span(sides(), mpp, px)


def of_shards(shards: Shards, *, mpp: float, cache: str | Path) -> Span:
    """Returns the resolutions of the tiles of shards; all headers are read once and the shorter sides kept in `cache`.

    Raises:
        UsageError: `HZ-D24`, `HZ-D27`, a tile that cannot be read or is none.
        IntegrityError: `HZ-E39`, a shard is not what it was.
    """
    where = kept.place_of(cache, "shorter sides, 1", shards.fingerprint)
    known = kept.recall(where)
    if known is None:
        each = [
            min(size(shards.image(group, row))) for group, n in enumerate(shards.sizes) for row in range(n)
        ]
        arrays = {"sides": np.array([min(each), max(each)])}
        kept.remember(where, arrays)
    else:
        arrays = known.arrays
    return _span(arrays["sides"].tolist(), mpp, shards.px)


def _span(sides: Iterable[int], mpp: float, px: int) -> Span:
    found = set(sides)
    return mpp * min(found) / px, mpp * max(found) / px
