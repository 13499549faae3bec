"""Tiles straight from Parquet shards, mixed by weight, at a position that is a function of the sample's index alone.

Nothing is decoded or copied beforehand, and no state is carried: a run that is resumed at sample i reads what it would have read. The
order of one set is drawn in two levels, as a shuffle buffer does it, but without a buffer to restore: the row groups of all shards are
shuffled each epoch, and the rows within each window of a few neighbouring groups of that order. Reading on, a worker holds one window of
encoded tiles per set.

Shapes: px pixels, U uniform numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from histozoo.data.shards import read_index
from histozoo.data.unlabelled import check_weights, sample_generator
from histozoo.errors import UsageError

BLOCK = 1024
"""Samples in which every set has its exact share."""

_ORDER, _MIX = 1 << 62, 1 << 63
"""Streams of numbers apart from those of the samples, whose indices stay below."""


class Place(NamedTuple):
    """Where a sample lies: number of the set, of the row group in it, and of the row in the group."""

    number: int
    group: int
    row: int


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """Shards of one set.

    Args:
        folder: Holds `index.json` and the shards, as `histozoo prepare --shards` writes them.
        weight: Its share of the samples, relative to the other sets; above 0. The number of tiles makes every tile equally likely.
    """

    folder: Path
    weight: float = 1.0


class StreamedTiles(Dataset[dict[str, Any]]):
    """The endless mixed sequence of one run over shards, cut to `samples`.

    Sets are mixed exactly: of each `BLOCK` samples every set has its share, in drawn order, at least one. Every tile of a set is shown once
    before any is shown again.

    Args:
        sets: Name -> shards. The order fixes the number of a set.
        seed: Run seed, at least 0.
        samples: Length of the sequence, below 2^62.
        px: Side of the tiles in pixels: shorter side resized, then the centre, as `histozoo.data.tiles.fit`.
        uniforms: Uniform numbers of each sample.
        window: Row groups that are shuffled together and held in memory, 16 MB each at most as written by `prepare`.

    Raises:
        UsageError: `HZ-U86`, a set without tiles or a weight that is not above 0; of a sample, `HZ-D24` to `HZ-D31` with its row.
        IntegrityError: `HZ-E39`, a shard is not what its index says.
    """

    def __init__(
        self,
        sets: Mapping[str, ShardSet],
        *,
        seed: int,
        samples: int,
        px: int,
        uniforms: int,
        window: int = 4,
    ) -> None:
        self.seed, self.samples, self.px, self.uniforms = seed, samples, px, uniforms
        self.shards = tuple(Shards.open(s.folder, window) for s in sets.values())
        weights = {name: s.weight for name, s in sets.items()}
        check_weights(weights, {name: s.rows for name, s in zip(sets, self.shards, strict=True)})
        self._counts = exact_shares(list(weights.values()), BLOCK)

    def __len__(self) -> int:
        return self.samples

    def place(self, index: int) -> Place:
        """Returns where sample `index` lies."""
        block, slot = divmod(index, BLOCK)
        number, rank = self._mixed(block)[slot].tolist()
        position = block * int(self._counts[number]) + rank
        return Place(number, *self.shards[number].place(position, self.seed, number))

    def _mixed(self, block: int) -> NDArray[np.int64]:
        return _block_order(self.seed, block, tuple(self._counts.tolist()))

    def __getitem__(self, index: int) -> dict[str, Any]:
        at = self.place(index)
        u_U = sample_generator(self.seed, index).random(self.uniforms, dtype=np.float32)
        tile_HWC = torch.from_numpy(self._tile(at))
        return {"tiles": tile_HWC, "set": at.number, "u": torch.from_numpy(u_U), "index": index}

    def _tile(self, at: Place) -> NDArray[np.uint8]:
        from histozoo.data.decoding import decode
        from histozoo.data.tiles import fit

        shards = self.shards[at.number]
        try:
            return fit(decode(shards.image(at.group, at.row)), self.px).copy()
        except UsageError as error:
            fields = {f: getattr(error, f) for f in ("expected", "got", "next_step")}
            raise UsageError(error.code, error.what, where=shards.name(at.group, at.row), **fields) from error


@dataclass
class Shards:
    """The row groups of one folder's shards, in the order of its index, and the last of them that were read."""

    files: tuple[Path, ...]
    file_of_group: NDArray[np.int64]
    group_in_file: NDArray[np.int64]
    sizes: NDArray[np.int64]
    window: int
    _held: dict[int, Any] = field(default_factory=dict)
    _orders: dict[tuple[int, int, int], tuple[NDArray[np.int64], NDArray[np.int64]]] = field(
        default_factory=dict
    )

    @classmethod
    def open(cls, folder: Path, window: int) -> Shards:
        """Compares the shards with their index and reads the sizes of their row groups."""
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]

        files = tuple(Path(folder) / s["file"] for s in read_index(Path(folder))["shards"])
        places: list[tuple[int, int, int]] = []
        for number, path in enumerate(files):
            facts = parquet.read_metadata(path)
            places += [(number, g, facts.row_group(g).num_rows) for g in range(facts.num_row_groups)]
        columns = np.array([p for p in places if p[2]], dtype=np.int64).reshape(-1, 3).T
        return cls(files, columns[0], columns[1], columns[2], window)

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads its own window.
        return {**self.__dict__, "_held": {}}

    @property
    def rows(self) -> int:
        """Number of tiles."""
        return int(self.sizes.sum())

    def place(self, position: int, seed: int, number: int) -> tuple[int, int]:
        """Returns row group and row in it of a position in the endless order of set `number`."""
        epoch, position = divmod(position, self.rows)
        order, ends = self._order(seed, number, epoch)
        window = int(np.searchsorted(ends[self.window - 1 :: self.window], position, side="right"))
        first = window * self.window
        groups = order[first : first + self.window]
        start = int(ends[first - 1]) if first else 0
        rows = _window_order(seed, number, epoch, window, int(self.sizes[groups].sum()))
        row = int(rows[position - start])
        edges = np.cumsum(self.sizes[groups])
        at = int(np.searchsorted(edges, row, side="right"))
        return int(groups[at]), row - (int(edges[at - 1]) if at else 0)

    def _order(self, seed: int, number: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the order of the row groups in an epoch, and where each ends; that of the last epoch asked for is kept."""
        key = (seed, number, epoch)
        if key not in self._orders:
            order = _generator(seed, _ORDER + number, epoch).permutation(len(self.sizes))
            self._orders.clear()
            self._orders[key] = order, np.cumsum(self.sizes[order])
        return self._orders[key]

    def name(self, group: int, row: int) -> str:
        """Returns shard, row group and row, for a person."""
        file, in_file = self.files[self.file_of_group[group]], int(self.group_in_file[group])
        return f"{file}, row group {in_file}, row {row}"

    def image(self, group: int, row: int) -> bytes:
        """Returns the encoded tile; the row groups of one window are kept."""
        if group not in self._held:
            import pyarrow.parquet as parquet

            while len(self._held) >= self.window:
                self._held.pop(next(iter(self._held)))
            with parquet.ParquetFile(self.files[self.file_of_group[group]]) as file:
                table = file.read_row_group(int(self.group_in_file[group]), columns=["image.bytes"])
            self._held[group] = table.column("image").combine_chunks().field("bytes")
        found: bytes = self._held[group][row].as_py()
        return found


def exact_shares(weights: list[float], total: int) -> NDArray[np.int64]:
    """Returns whole numbers that sum to `total` in proportion to the weights, by largest remainders, at least 1 each.

    Args:
        weights: Above 0; at most `total` of them.
        total: What they sum to.
    """
    exact = np.array(weights, dtype=np.float64) / sum(weights) * (total - len(weights))
    counts = np.floor(exact).astype(np.int64)
    left = total - len(weights) - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:left]] += 1
    return counts + 1


def _generator(seed: int, stream: int, *more: int) -> np.random.Generator:
    """Returns a generator of its own for a place in the sequence; the counter takes what the key has no room for."""
    counter = np.array([*more, *[0] * (4 - len(more))], dtype=np.uint64)[::-1].copy()
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, stream], dtype=np.uint64), counter=counter)
    )


@lru_cache(maxsize=8)
def _block_order(seed: int, block: int, counts: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns set and rank within the set of each sample of a block, `[BLOCK, 2]`."""
    numbers = np.repeat(np.arange(len(counts)), counts)
    numbers = _generator(seed, _MIX, block).permutation(numbers)
    ranks = np.empty_like(numbers)
    for number, count in enumerate(counts):
        ranks[numbers == number] = np.arange(count)
    return np.stack([numbers, ranks], axis=1)


@lru_cache(maxsize=64)
def _window_order(seed: int, number: int, epoch: int, window: int, rows: int) -> NDArray[np.int64]:
    return _generator(seed, _ORDER + number, epoch, window + 1).permutation(rows)
