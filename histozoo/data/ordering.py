"""An endless order over the tiles of shards, as a function of the seed and the position alone: no buffer to restore, no state carried.

Drawn in two levels, as a shuffle buffer does it: the groups (tiles that lie together) of all shards are shuffled each epoch, and the
tiles within each window of a few neighbouring groups of that order. Every tile is shown once before any is shown again.

Shapes: N tiles, G groups, H W px pixels, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError

ORDER, MIX = 1 << 62, 1 << 63
"""Streams of numbers apart from those of the samples, whose indices stay below; the order of set i is drawn from `ORDER + i`."""


class Shards(ABC):
    """Tiles of one folder's shards, encoded, in the endless order.

    Args:
        files: The shards.
        file_of_group: int64 `[G]`: which shard each group lies in; ascending.
        sizes: int64 `[G]`: tiles of each group, above 0.
        window: Neighbouring groups of the order whose tiles are shuffled together.
        px: Side of the tiles that are shown, in pixels.
        fingerprint: sha256 over names and contents of the shards.
        ignored: Members of the shards that are no tiles.
    """

    def __init__(
        self,
        files: tuple[Path, ...],
        file_of_group: NDArray[np.int64],
        sizes: NDArray[np.int64],
        *,
        window: int,
        px: int,
        fingerprint: str,
        ignored: int = 0,
    ) -> None:
        self.files, self.file_of_group, self.sizes = files, file_of_group, sizes
        self.window, self.px, self.fingerprint, self.ignored = window, px, fingerprint, ignored
        self._groups, self._starts = np.arange(len(sizes)), sizes
        self._kept: NDArray[np.int64] | None = None
        self._order: tuple[tuple[int, int, int], NDArray[np.int64], NDArray[np.int64]] | None = None

    @abstractmethod
    def image(self, group: int, row: int) -> bytes:
        """Returns the encoded tile."""

    @abstractmethod
    def name(self, group: int, row: int) -> str:
        """Returns what a person calls the tile."""

    @property
    def rows(self) -> int:
        """Number of tiles."""
        return int(self.sizes.sum())

    def only(self, kept_N: NDArray[np.bool_]) -> None:
        """Leaves tiles out.

        Args:
            kept_N: Which tiles stay, in the order of the groups; at least one.
        """
        parts = [np.flatnonzero(part) for part in np.split(kept_N, np.cumsum(self.sizes)[:-1])]
        self._groups = np.array([group for group, part in enumerate(parts) if len(part)], dtype=np.int64)
        self._kept = np.concatenate(parts)
        self.sizes = np.array([len(part) for part in parts if len(part)], dtype=np.int64)
        self._starts = np.cumsum(self.sizes) - self.sizes

    def place(self, position: int, seed: int, number: int) -> tuple[int, int]:
        """Returns group and row in it of a position in the endless order of set `number`."""
        epoch, position = divmod(position, self.rows)
        order, ends = self._order_of(seed, number, epoch)
        window = int(np.searchsorted(ends[self.window - 1 :: self.window], position, side="right"))
        first = window * self.window
        chosen = order[first : first + self.window]
        start = int(ends[first - 1]) if first else 0
        row = int(_window_order(seed, number, epoch, window, int(self.sizes[chosen].sum()))[position - start])
        edges = np.cumsum(self.sizes[chosen])
        at = int(np.searchsorted(edges, row, side="right"))
        return self._full(int(chosen[at]), row - (int(edges[at - 1]) if at else 0))

    def tile(self, at: tuple[int, ...]) -> NDArray[np.uint8]:
        """Returns the tile at a place as uint8 RGB `[px, px, 3]`.

        Raises:
            UsageError: `HZ-D24` to `HZ-D31`, it cannot be decoded; names it.
            IntegrityError: `HZ-E39`, the shard is not what it was.
        """
        from histozoo.data.decoding import decode
        from histozoo.data.tiles import fit

        group, row = at
        data = self.image(group, row)
        try:
            return fit(decode(data), self.px).copy()
        except UsageError as error:
            fields = {f: getattr(error, f) for f in ("expected", "got", "next_step")}
            raise UsageError(error.code, error.what, where=self.name(group, row), **fields) from error

    def _full(self, group: int, row: int) -> tuple[int, int]:
        """Returns group and row among all tiles of those among the kept ones."""
        if self._kept is not None:
            row = int(self._kept[self._starts[group] + row])
        return int(self._groups[group]), row

    def _order_of(self, seed: int, number: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the order of the groups in an epoch, and where each ends; that of the last epoch asked for is kept."""
        key = (seed, number, epoch)
        if self._order is None or self._order[0] != key:
            order = generator(seed, ORDER + number, epoch).permutation(len(self.sizes))
            self._order = key, order, np.cumsum(self.sizes[order])
        return self._order[1:]


def generator(seed: int, stream: int, *more: int) -> np.random.Generator:
    """Returns a generator of its own for a place in the sequence; the counter takes what the key has no room for."""
    counter = np.array([*more, *[0] * (4 - len(more))], dtype=np.uint64)[::-1].copy()
    key: Any = np.array([seed, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@lru_cache(maxsize=64)
def _window_order(seed: int, number: int, epoch: int, window: int, rows: int) -> NDArray[np.int64]:
    return generator(seed, ORDER + number, epoch, window + 1).permutation(rows)
