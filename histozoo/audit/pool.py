"""The drawn tiles of all tasks side by side, the pairs of them that show one picture, and what such pairs mean.

Shapes: N tiles of all tasks, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.audit import by_features, copies
from histozoo.audit.reading import Read
from histozoo.data import rings

Pairs = NDArray[np.int64]

WAYS = ("exact", "near", "turned", "features")
"""How a pair was found; a pair has the first way that found it."""
MOST = 60_000
"""Tiles compared with each other at most; the time grows with the square."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """All drawn tiles and their pairs.

    Args:
        names: Task names.
        task_N, row_N: Number of each tile's task and its place among the task's drawn rows.
        labels: Class word of each tile.
        groups, splits: Of each tile.
        pairs: int64 `[P, 2]`, smaller first, sorted.
        way_P: Index into `WAYS`.
        sure_P: Whether the two are one picture beyond doubt: equal pixels, or equal but for encoding and quarter turns.
        compared: Tiles that were compared for near copies; fewer than N where there are more than `MOST`.
    """

    names: tuple[str, ...]
    task_N: NDArray[np.int64]
    row_N: NDArray[np.int64]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]
    splits: NDArray[np.str_]
    pairs: Pairs
    way_P: NDArray[np.int64]
    sure_P: NDArray[np.bool_]
    compared: int

    def inside(self, task: int) -> NDArray[np.bool_]:
        """Returns which pairs lie within one task."""
        return np.asarray((self.task_N[self.pairs] == task).all(axis=1))

    def between(self, first: int, second: int) -> NDArray[np.bool_]:
        """Returns which pairs join two tasks."""
        of_P2 = np.sort(self.task_N[self.pairs], axis=1)
        return np.asarray((of_P2[:, 0] == min(first, second)) & (of_P2[:, 1] == max(first, second)))


def make_pool(
    reads: Sequence[Read],
    *,
    features: Mapping[str, Path] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Pool:
    """Puts the tiles side by side and looks for copies in every way.

    Args:
        reads: What was read of each task.
        features: Task name -> feature file.
        seed: Of the draw where there are more than `MOST` tiles.
        progress: Called with the numbers of comparisons that are done and of all; each is of all tiles, or of one task's.

    Raises:
        UsageError: `HZ-U81`, `HZ-U82` about feature files.
    """
    task_N = np.concatenate([np.full(len(r.drawn_N), t) for t, r in enumerate(reads)]).astype(np.int64)
    thumbs = np.concatenate([r.thumbs_NhwC for r in reads])
    found = {"exact": copies.exact([pixels for r in reads for pixels in r.pixels])}
    chosen = _chosen(len(task_N), seed)
    step = _counted(copies.TURNS + len(reads) + (len(reads) > 1), progress)
    found["near"] = _back(copies.near(thumbs[chosen], on_turn=step), chosen)
    found["turned"] = _turned(reads, task_N, chosen, step)
    if features:
        found["features"] = by_features.similar(by_features.gather(reads, features))
    pairs, way_P = _merged(found)
    return Pool(
        names=tuple(r.rows.task.name for r in reads),
        task_N=task_N,
        row_N=np.concatenate([np.arange(len(r.drawn_N)) for r in reads]).astype(np.int64),
        labels=np.array([r.rows.task.classes[k] for r in reads for k in r.labels_N.tolist()], dtype=str),
        groups=np.array([group for r in reads for group in r.cells("groups")], dtype=str),
        splits=np.array([split for r in reads for split in r.cells("splits")], dtype=str),
        pairs=pairs,
        way_P=way_P,
        sure_P=(way_P == 0) | copies.same_picture(thumbs, pairs),
        compared=len(chosen),
    )


def _counted(total: int, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    """Returns a function that counts up to the total, aloud where somebody listens."""
    numbers = iter(range(1, total + 1))
    if progress:
        progress(0, total)
    return lambda: progress(next(numbers), total) if progress else None


def _chosen(n: int, seed: int) -> NDArray[np.int64]:
    if n <= MOST:
        return np.arange(n)
    return np.sort(np.random.default_rng([seed, 4]).choice(n, MOST, replace=False))


def _turned(
    reads: Sequence[Read], task_N: NDArray[np.int64], chosen: NDArray[np.int64], step: Callable[[], None]
) -> Pairs:
    """Looks within each task, where a tile's own kin are its nearest, and over all tasks at once."""
    contrast = np.concatenate([r.contrast_NRA for r in reads])[chosen]
    colour = np.concatenate([r.colour_NraC for r in reads])[chosen]
    found = []
    for rows in (np.flatnonzero(task_N[chosen] == t) for t in range(len(reads))):
        found.append(_back(rings.find_turned(contrast[rows], colour[rows])[0], chosen[rows]))
        step()
    if len(reads) > 1:
        found.append(_back(rings.find_turned(contrast, colour)[0], chosen))
        step()
    return np.unique(np.concatenate(found), axis=0)


def _back(pairs: Pairs, rows: NDArray[np.int64]) -> Pairs:
    return rows[pairs] if len(pairs) else np.empty((0, 2), dtype=np.int64)


def _merged(found: Mapping[str, Pairs]) -> tuple[Pairs, NDArray[np.int64]]:
    ways = np.concatenate([np.full(len(pairs), WAYS.index(way)) for way, pairs in found.items()])
    pairs, first = np.unique(np.concatenate(list(found.values())), axis=0, return_index=True)
    return pairs.reshape(-1, 2), ways[first].astype(np.int64)


def summary(pool: Pool, task: int) -> dict[str, Any]:
    """Returns the numbers of pairs within one task, by way and by what they join, and of tiles that have a copy."""
    inside = pool.inside(task)
    pairs = pool.pairs[inside]
    same_group = pool.groups[pairs[:, 0]] == pool.groups[pairs[:, 1]]
    n = int((pool.task_N == task).sum())
    with_copy = len(np.unique(pairs))
    return {
        **{way: int((pool.way_P[inside] == i).sum()) for i, way in enumerate(WAYS)},
        "pairs": len(pairs),
        "in_groups": int(same_group.sum()),
        "across_groups": int((~same_group).sum()),
        "tiles_with_copy": with_copy,
        "share": round(with_copy / n, 4) if n else 0.0,
    }
