"""Sets of tiles of any kind mixed by weight, each at a position that is a function of the sample's index alone.

Shards and slides are read as they lie: nothing is unpacked beforehand, and no state is carried, so a run that is resumed at sample i
reads what it would have read, whatever the number of workers.

Shapes: px pixels, U uniform numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from histozoo.data.ordering import MIX, Shards, generator
from histozoo.data.unlabelled import check_weights, sample_generator
from histozoo.errors import UsageError

BLOCK = 1024
"""Samples in which every set has its exact share."""


class TileSource(Protocol):
    """Tiles of one set in an endless order of its own, opened; whatever it holds open is opened again in another process."""

    @property
    def rows(self) -> int:
        """Number of tiles."""

    def place(self, position: int, seed: int, number: int) -> tuple[int, ...]:
        """Returns where a position in the order of set `number` lies."""

    def tile(self, at: tuple[int, ...]) -> NDArray[np.uint8]:
        """Returns the tile at a place as uint8 RGB `[px, px, 3]`."""


class Mixable(Protocol):
    """A set that can be opened and mixed: `ShardSet`, `histozoo.data.unlabelled.TileSet`, `histozoo.data.slide_tiles.SlideSet`."""

    @property
    def weight(self) -> float:
        """Its share of the samples, relative to the other sets; above 0."""

    def open(self, px: int) -> TileSource:
        """Returns the set as tiles of `px` pixels."""


class Place(NamedTuple):
    """Where a sample lies: number of the set, and the place in it, such as row group and row."""

    number: int
    at: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """Shards of one set.

    Args:
        folder: Holds Parquet shards, as `histozoo prepare --shards` or `datasets` writes them, or the .tar files of a WebDataset.
        weight: Its share of the samples, relative to the other sets; above 0. The number of tiles makes every tile equally likely.
        cache: Where it is kept what lies where in a tar; each is read from end to end at every start where it is None. Parquet shards
            without an index are hashed once, too; those with one, as `prepare` writes it, at every start.
        window: Neighbouring groups of the order whose tiles are shuffled together; of each kind's own size where it is None.
    """

    folder: Path
    weight: float = 1.0
    cache: Path | None = None
    window: int | None = None

    def open(self, px: int) -> Shards:
        """Returns the shards, compared with their index.

        Raises:
            UsageError: `HZ-U86`, there are no shards, shards of two kinds, or compressed ones.
            IntegrityError: `HZ-E39`, a shard is not what its index says.
        """
        return open_shards(self.folder, px=px, cache=self.cache, window=self.window)


class StreamedTiles(Dataset[dict[str, Any]]):
    """The endless mixed sequence of one run, cut to `samples`.

    Sets are mixed exactly: of each `BLOCK` samples every set has its share, in drawn order, at least one. Every tile of a set is shown once
    before any is shown again; of slides, tissue positions are drawn.

    Args:
        sets: Name -> set. The order fixes the number of a set.
        seed: Run seed, at least 0.
        samples: Length of the sequence, below 2^62.
        px: Side of the tiles in pixels: shorter side resized, then the centre, as `histozoo.data.tiles.fit`.
        uniforms: Uniform numbers of each sample.

    Raises:
        UsageError: `HZ-U86`, a set without tiles or a weight that is not above 0; of a sample, `HZ-D24` to `HZ-D31` with its row.
        IntegrityError: `HZ-E39`, a shard is not what its index says.
    """

    def __init__(
        self, sets: Mapping[str, Mixable], *, seed: int, samples: int, px: int, uniforms: int
    ) -> None:
        self.seed, self.samples, self.px, self.uniforms = seed, samples, px, uniforms
        self.sources = tuple(s.open(px) for s in sets.values())
        weights = {name: s.weight for name, s in sets.items()}
        check_weights(weights, {name: s.rows for name, s in zip(sets, self.sources, strict=True)})
        self._counts = exact_shares(list(weights.values()), BLOCK)

    def __len__(self) -> int:
        return self.samples

    def place(self, index: int) -> Place:
        """Returns where sample `index` lies."""
        block, slot = divmod(index, BLOCK)
        number, rank = self._mixed(block)[slot].tolist()
        position = block * int(self._counts[number]) + rank
        return Place(number, self.sources[number].place(position, self.seed, number))

    def _mixed(self, block: int) -> NDArray[np.int64]:
        return _block_order(self.seed, block, tuple(self._counts.tolist()))

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, at = self.place(index)
        u_U = sample_generator(self.seed, index).random(self.uniforms, dtype=np.float32)
        tile_HWC = torch.from_numpy(self.sources[number].tile(at))
        return {"tiles": tile_HWC, "set": number, "u": torch.from_numpy(u_U), "index": index}


def open_shards(folder: Path, *, px: int, cache: Path | None = None, window: int | None = None) -> Shards:
    """Opens the shards of a folder, of whichever kind they are.

    Raises:
        UsageError: `HZ-U86`, there are no shards, shards of two kinds, or compressed ones.
        IntegrityError: `HZ-E39`, a shard is not what its index says.
    """
    from histozoo.data.listing import tell_skipped
    from histozoo.data.parquet_tiles import ParquetShards
    from histozoo.data.shards import INDEX
    from histozoo.data.tar_tiles import TarShards
    from histozoo.tile_lists import walk

    names, skipped = walk(folder) if folder.is_dir() else ([], {})
    tell_skipped(folder, skipped)
    tars = [name for name in names if name.endswith(".tar")]
    others = [name for name in names if name.endswith(".parquet")]
    compressed = [name for name in names if name.endswith(".tgz") or ".tar." in name]
    if not tars and (others or INDEX in names):
        return ParquetShards.open(folder, others, px=px, cache=cache, window=window)
    if not tars or others or compressed:
        found = [*tars[:1], *others[:1], *compressed[:1]]
        raise UsageError(
            "HZ-U86",
            "these are no shards to read from",
            where=folder,
            expected="Parquet shards, or .tar files without compression; not both",
            got=", ".join(found) or ("no shard" if folder.is_dir() else "no such folder"),
            kept="nothing was read",
            next_step="histozoo prepare --shards writes Parquet shards; gunzip unpacks .tar.gz",
        )
    return TarShards.open(tuple(folder / n for n in tars), folder, px=px, cache=cache, window=window)


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


@lru_cache(maxsize=8)
def _block_order(seed: int, block: int, counts: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns set and rank within the set of each sample of a block, `[BLOCK, 2]`."""
    numbers = np.repeat(np.arange(len(counts)), counts)
    numbers = generator(seed, MIX, block).permutation(numbers)
    ranks = np.empty_like(numbers)
    for number, count in enumerate(counts):
        ranks[numbers == number] = np.arange(count)
    return np.stack([numbers, ranks], axis=1)
