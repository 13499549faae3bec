"""Near copies by features: pairs of tiles that a model calls nearly the same, where a feature file of each task is given.

Shapes: N tiles, P pairs, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histozoo import feature_files
from histozoo.audit.reading import Read
from histozoo.errors import UsageError

COSINE = 0.97
"""Least cosine similarity, after the mean of all tiles is taken out, for a pair."""
_NEIGHBOURS, _BLOCK = 5, 1024


def features_of(read: Read, path: Path) -> NDArray[np.float32]:
    """Returns the features of the drawn rows, `[N, D]`, NaN where the file has none.

    Args:
        read: A task's drawn rows.
        path: Feature file; its names are those of the table, or end like them.

    Raises:
        UsageError: `HZ-U81`, no tile of the task is in the file.
        IntegrityError: `HZ-H64`, it is no feature file.
    """
    stored = feature_files.read(path)
    at = {name: row for row, name in enumerate(stored.names)}
    short = {name.rpartition("/")[2]: row for row, name in enumerate(stored.names)}
    rows = [at.get(name, short.get(name.rpartition("/")[2], -1)) for name in read.cells("names")]
    if rows and max(rows) < 0:
        raise UsageError(
            "HZ-U81",
            f"the feature file names no tile of task {read.rows.task.name!r}",
            where=path,
            expected=f"names such as {read.rows.names[0]}",
            got=", ".join(stored.names[:3]),
            next_step="embed the task's own folder: histozoo embed",
        )
    found_ND = stored.features_ND[np.maximum(rows, 0)].copy()
    found_ND[np.array(rows) < 0] = np.nan
    return found_ND


def similar(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    """Returns the pairs of rows, over all parts in order, whose features are nearly the same; int64 `[P, 2]`, sorted.

    Each row is compared with its five nearest; rows with NaN have none.

    Raises:
        UsageError: `HZ-U82`, the parts were made by models of different feature size.
    """
    sizes = sorted({part.shape[1] for part in parts if len(part)})
    if len(sizes) > 1:
        raise UsageError(
            "HZ-U82",
            "the feature files are not of one model",
            expected="one number of features",
            got=", ".join(map(str, sizes)),
            next_step="embed all tasks with the same model",
        )
    if not sizes:
        return np.empty((0, 2), dtype=np.int64)
    all_ND = np.concatenate([part.reshape(-1, sizes[0]) for part in parts])
    there = np.flatnonzero(np.isfinite(all_ND).all(axis=1))
    unit_ND = all_ND[there] - all_ND[there].mean(axis=0)
    unit_ND /= np.maximum(np.linalg.norm(unit_ND, axis=1, keepdims=True), 1e-12)
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(unit_ND), _BLOCK):
        like = unit_ND[start : start + _BLOCK] @ unit_ND.T
        rows = np.arange(len(like))
        like[rows, start + rows] = -2
        near = np.argsort(-like, axis=1)[:, :_NEIGHBOURS]
        a, b = np.nonzero(np.take_along_axis(like, near, axis=1) >= COSINE)
        found.append(np.stack([there[start + a], there[near[a, b]]], axis=1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def gather(reads: Sequence[Read], files: Mapping[str, Path]) -> list[NDArray[np.float32]]:
    """Returns each task's features in the order of `reads`, NaN rows of one size for tasks without a file."""
    parts = [
        features_of(r, Path(files[r.rows.task.name])) if r.rows.task.name in files else None for r in reads
    ]
    size = next((part.shape[1] for part in parts if part is not None), 1)
    return [
        part if part is not None else np.full((len(r.drawn_N), size), np.nan, dtype=np.float32)
        for r, part in zip(reads, parts, strict=True)
    ]
