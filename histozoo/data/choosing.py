"""Which tiles of a set are worth showing: those with tissue on them, and of copies the first.

Shapes: N tiles, h w of a thumbnail, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histozoo.data import kept
from histozoo.data.duplicates import Likeness, alike_thumbnails, thumbnails
from histozoo.errors import UsageError

TISSUE_DENSITY = 0.15
"""Decadic optical density from which a pixel counts as tissue: beta of Macenko et al., "A method for normalizing histology slides for
quantitative analysis", ISBI 2009."""

_log = logging.getLogger(__name__)
_BLOCK = 256


@dataclass(frozen=True)
class Choice:
    """Which tiles of a set were kept, and why the others were not.

    Args:
        rows: Rows kept, ascending.
        tiles: How many there were.
        background: How many had too little tissue.
        duplicates: How many of the rest show the same picture as an earlier one that was kept.
    """

    rows: NDArray[np.int64]
    tiles: int
    background: int
    duplicates: int

    def report(self) -> dict[str, int]:
        """Returns the counts as JSON types."""
        return {
            "kept": len(self.rows),
            "tiles": self.tiles,
            "background": self.background,
            "duplicates": self.duplicates,
        }


def choose_once(cache: str | Path, told: object, make: Callable[[], Choice]) -> Choice:
    """Returns what `make` chooses, from `cache` where it was chosen before: copies are looked for in the square of the tiles' number.

    Args:
        cache: Where choices are kept.
        told: What decides: the tiles' fingerprint and the settings.
        make: Chooses.
    """
    where = kept.place_of(cache, "choice, 1", told)
    if known := kept.recall(where):
        return Choice(known.arrays["rows"], *known.arrays["counts"].tolist())
    made = make()
    counts = np.array([made.tiles, made.background, made.duplicates])
    kept.remember(where, {"rows": made.rows, "counts": counts})
    return made


def choose_rows(
    tiles_NHWC: NDArray[np.uint8],
    *,
    least_tissue: float = 0.0,
    duplicates: Likeness | None = None,
    rows: NDArray[np.int64] | None = None,
    where: object = "",
) -> Choice:
    """Returns which tiles to train on; the counts are logged.

    Args:
        tiles_NHWC: uint8 RGB `[N, px, px, 3]`.
        least_tissue: Least share of tissue (`tissue_share`) of a tile; 0 keeps all.
        duplicates: How alike two tiles must be for the later one to be left out (`histozoo.data.duplicates.SAME`, `NEAR`); None keeps all.
            Memory of 12 kB per tile, and time in the square of their number: a minute for 50,000.
        rows: Rows to choose from; all where it is None.
        where: Name of the set, for the log.

    Raises:
        UsageError: `HZ-U86`, nothing is left.
    """
    given = np.arange(len(tiles_NHWC)) if rows is None else np.sort(rows)
    shares_N = None
    if least_tissue > 0:
        blocks = (tiles_NHWC[given[i : i + _BLOCK]] for i in range(0, len(given), _BLOCK))
        shares_N = np.concatenate([*map(tissue_share, blocks), np.empty(0)])
    return choose(
        given,
        shares_N,
        lambda some: thumbnails(tiles_NHWC[some]),
        least_tissue=least_tissue,
        duplicates=duplicates,
        where=where,
    )


def choose(
    given_N: NDArray[np.int64],
    shares_N: NDArray[np.float64] | None,
    thumbnails_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    *,
    least_tissue: float,
    duplicates: Likeness | None,
    where: object,
) -> Choice:
    """Chooses as `choose_rows` does, from what was seen of the tiles.

    Args:
        given_N: Rows to choose from, ascending.
        shares_N: Share of tissue of each; None where that does not matter.
        thumbnails_of: Gives the `histozoo.data.duplicates.thumbnails` of some of the rows.
        least_tissue: As in `choose_rows`.
        duplicates: As in `choose_rows`.
        where: As in `choose_rows`.

    Raises:
        UsageError: `HZ-U86`, nothing is left.
    """
    rows = given_N if shares_N is None else given_N[shares_N >= least_tissue]
    seen = len(rows)
    if duplicates is not None and seen:
        rows = rows[_first_of_each(thumbnails_of(rows), duplicates)]
    choice = Choice(rows, len(given_N), len(given_N) - seen, seen - len(rows))
    if not len(rows):
        raise UsageError(
            "HZ-U86",
            "no tile is left to train on",
            where=where,
            expected=f"tissue >= {least_tissue:g}",
            got=choice.report(),
            kept="nothing was trained",
        )
    _log.info("%s: %s", where, ", ".join(f"{name} {n:,}" for name, n in choice.report().items()))
    return choice


def tissue_share(tiles_NHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the share of each tile's pixels that are stained, 0 to 1: mean decadic optical density of at least `TISSUE_DENSITY`.

    Light of 255 counts as glass: a scan whose glass is grey or a smear on a coloured background wants a threshold of its own.
    """
    density_NHW = -np.log10(np.maximum(tiles_NHWC, 1).astype(np.float32) / 255).mean(axis=3)
    return np.asarray((density_NHW >= TISSUE_DENSITY).mean(axis=(1, 2)), dtype=np.float64)


def _first_of_each(thumbs_NhwC: NDArray[np.float32], least: Likeness) -> NDArray[np.int64]:
    """Returns the rows without those that are like an earlier row that is kept; a chain of likeness thus keeps every other one."""
    dropped: set[int] = set()
    # Sorted by the first, the first smaller.
    for first, second in alike_thumbnails(thumbs_NhwC, least=least).tolist():
        if first not in dropped:
            dropped.add(second)
    return np.array([row for row in range(len(thumbs_NhwC)) if row not in dropped], dtype=np.int64)
