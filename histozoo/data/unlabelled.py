"""Tiles without labels, from several sets mixed by weight: sample i is a pure function of the seed and i.

So a killed run resumes bit-identically and workers do not matter, as in `histozoo.data.mixing`. The same from shards, without decoding
them first, mixed with packed ones: `histozoo.data.streamed`.

Shapes: N tiles, H W px pixels, U uniform numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from histozoo.data.choosing import Choice, choose_rows, tissue_share
from histozoo.data.duplicates import SAME, Likeness
from histozoo.data.listing import tell_skipped
from histozoo.data.packed_tiles import PackedTiles
from histozoo.errors import UsageError

__all__ = [
    "Choice",
    "TileSet",
    "UnlabelledTiles",
    "as_dataset",
    "check_weights",
    "choose_rows",
    "pack_folders",
]
__all__ += ["sample_generator", "tissue_share"]


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


class UnlabelledTiles(Dataset[dict[str, Any]]):
    """The endless mixed sequence of one run, cut to `samples`. A set is drawn by weight, then a tile uniformly in it, with replacement.

    Args:
        sets: Name -> tiles. The order fixes the number of a set.
        seed: Run seed, at least 0.
        samples: Length of the sequence.
        uniforms: Uniform numbers of each sample, such as `SSLViews.uniforms`.

    Raises:
        UsageError: `HZ-U86`, no set, a set without tiles, a weight that is not above 0, or sets of different tile sizes.
    """

    def __init__(self, sets: Mapping[str, TileSet], *, seed: int, samples: int, uniforms: int) -> None:
        check_weights(
            {name: s.weight for name, s in sets.items()}, {name: len(s.rows) for name, s in sets.items()}
        )
        sizes = {name: s.tiles_NHWC.shape[1:3] for name, s in sets.items()}
        if len(set(sizes.values())) > 1:
            raise _refused("tiles of different sizes cannot be in one batch", expected="one size", got=sizes)
        self.sets, self.seed, self.samples, self.uniforms = tuple(sets.values()), seed, samples, uniforms
        weights = np.array([s.weight for s in self.sets], dtype=np.float64)
        self._edges = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return self.samples

    def draw(self, index: int) -> tuple[int, int, NDArray[np.float32]]:
        """Returns (number of the set, row of it, `uniforms` numbers in [0, 1)) of sample `index`."""
        random = sample_generator(self.seed, index)
        number = min(int(np.searchsorted(self._edges, random.random(), side="right")), len(self.sets) - 1)
        rows = self.sets[number].rows
        return number, int(rows[random.integers(len(rows))]), random.random(self.uniforms, dtype=np.float32)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, row, u_U = self.draw(index)
        tile_HWC = np.array(self.sets[number].tiles_NHWC[row])
        return {
            "tiles": torch.from_numpy(tile_HWC),
            "set": number,
            "u": torch.from_numpy(u_U),
            "index": index,
        }


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


def pack_folders(
    folders: Mapping[str, str | Path],
    *,
    px: int,
    cache: str | Path,
    weights: Mapping[str, float] | None = None,
    least_tissue: float = 0.0,
    duplicates: Likeness | None = SAME,
) -> tuple[dict[str, TileSet], dict[str, dict[str, int]]]:
    """Decodes folders of tiles, whatever lies how deep in them, and chooses what to train on.

    Args:
        folders: Name of the set -> folder, or a table with a column `file`.
        px: Side of the packed tiles in pixels.
        cache: Folder of packed arrays, as for `histozoo.data.tiles.pack`.
        weights: Name -> weight; the number of tiles kept where it is None, so that every tile is equally likely.
        least_tissue: As in `choose_rows`.
        duplicates: As in `choose_rows`; within a set.

    Returns:
        The sets, and the counts of `Choice.report` by set.

    Raises:
        UsageError: `HZ-U62` no tiles, what `pack` raises for a tile that cannot be decoded, or `HZ-U86`.
    """
    from histozoo.data.tiles import pack

    sets, reports = {}, {}
    for name, folder in folders.items():
        tiles_NHWC = pack(as_dataset(Path(folder)), px, cache)
        choice = choose_rows(tiles_NHWC, least_tissue=least_tissue, duplicates=duplicates, where=name)
        weight = len(choice.rows) if weights is None else weights[name]
        sets[name], reports[name] = (
            TileSet(tiles_NHWC=tiles_NHWC, rows=choice.rows, weight=weight),
            choice.report(),
        )
    return sets, reports


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
