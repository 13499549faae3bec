"""Background and copies left out of shards: one pass that looks at every tile once, kept shard by shard.

Shapes: N tiles of one shard, h w of a thumbnail, C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data import kept
from histozoo.data.choosing import Choice, choose, choose_once, tissue_share
from histozoo.data.duplicates import Likeness, thumbnails
from histozoo.data.ordering import Shards
from histozoo.errors import UsageError, all_of
from histozoo.integrity import identity

_RULE = "tissue and thumbnails of tiles, 1"
_BLOCK = 256


def thin(
    shards: Shards, *, least_tissue: float, duplicates: Likeness | None, cache: str | Path, where: object
) -> Choice:
    """Leaves out of the shards what `histozoo.data.choosing.choose_rows` leaves out of packed tiles.

    Every tile is decoded once, 5 ms each; what is seen is kept shard by shard, so a killed pass goes on with the next shard.

    Args:
        shards: Opened and whole.
        least_tissue: Least share of tissue of a tile; 0 keeps all.
        duplicates: How alike two tiles must be for the later one to be left out; None keeps all.
        cache: Where it is kept what was seen.
        where: Name of the set.

    Returns:
        What was kept, as rows in the order of the shards.

    Raises:
        UsageError: `HZ-U86`, nothing is left; `HZ-D24` to `HZ-D31`, tiles that cannot be decoded: the first, and the next four by name.
        IntegrityError: `HZ-E39`, a shard is not what it was.
    """
    told = (shards.fingerprint, shards.px, least_tissue, duplicates)
    choice = choose_once(cache, told, lambda: _chosen(shards, least_tissue, duplicates, Path(cache), where))
    kept_N = np.zeros(shards.rows, dtype=bool)
    kept_N[choice.rows] = True
    shards.only(kept_N)
    return choice


def _chosen(
    shards: Shards, least_tissue: float, duplicates: Likeness | None, cache: Path, where: object
) -> Choice:
    errors: list[UsageError] = []
    copies = duplicates is not None
    seen = [_seen(shards, file, copies, cache, errors) for file in range(len(shards.files))]
    if errors:
        raise all_of(errors, kept="nothing was trained") from errors[0]
    thumbs_NhwC = np.concatenate([s["thumbs"] for s in seen])
    return choose(
        np.arange(shards.rows),
        np.concatenate([s["shares"] for s in seen]) if least_tissue > 0 else None,
        lambda rows: thumbs_NhwC[rows],
        least_tissue=least_tissue,
        duplicates=duplicates,
        where=where,
    )


def _seen(
    shards: Shards, number: int, copies: bool, cache: Path, errors: list[UsageError]
) -> dict[str, NDArray[Any]]:
    """Returns tissue and, where `copies` are looked for, thumbnails of the tiles of one shard."""
    path = shards.files[number]
    where = kept.place(path, cache, f"{_RULE}, {shards.px} px, {copies}")
    known = kept.recall(where, path)
    if known and known.current:
        return known.arrays
    before, found = identity(path), len(errors)
    groups = np.flatnonzero(shards.file_of_group == number).tolist()
    rows = [(group, row) for group in groups for row in range(shards.sizes[group])]
    blocks = [_block(shards, rows[i : i + _BLOCK], copies, errors) for i in range(0, len(rows), _BLOCK)]
    none = {"shares": np.empty(0), "thumbs": np.empty((0, *thumbnails(_nothing(shards.px)).shape[1:]))}
    arrays = {name: np.concatenate([none[name], *(b[name] for b in blocks)]) for name in none}
    arrays["thumbs"] = arrays["thumbs"].astype(np.float32)
    if len(errors) == found:
        kept.remember(where, arrays, before)
    return arrays


def _block(
    shards: Shards, rows: list[tuple[int, int]], copies: bool, errors: list[UsageError]
) -> dict[str, NDArray[Any]]:
    tiles: list[NDArray[np.uint8]] = []
    for at in rows:
        try:
            tiles.append(shards.tile(at))
        except UsageError as error:
            errors.append(error)
    tiles_NHWC = np.stack(tiles) if tiles else _nothing(shards.px)
    return {
        "shares": tissue_share(tiles_NHWC),
        "thumbs": thumbnails(tiles_NHWC if copies else _nothing(shards.px)),
    }


def _nothing(px: int) -> NDArray[np.uint8]:
    return np.empty((0, px, px, 3), dtype=np.uint8)
