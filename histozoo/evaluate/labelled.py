"""A task as a protocol sees it: decoded tiles, labels and groups of the same rows, kept together from the file on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LabelledTiles:
    """One task's tiles; rows of all arrays belong together.

    Args:
        task: Name of the task.
        lineage: Tasks that share slides or patients share it.
        classes: Names of the classes.
        tiles_NHWC: uint8 RGB `[N, tile_px, tile_px, 3]`.
        labels_N: int64 class indices.
        groups_N: The unit never divided between training and scoring; duplicate tiles share one.
        fingerprint: sha256 of the task's names, labels, groups and file contents.

    Raises:
        UsageError: `HZ-I64`, tiles, labels and groups differ in number.
    """

    task: str
    lineage: str
    classes: tuple[str, ...]
    tiles_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    groups_N: NDArray[Any]
    fingerprint: str

    def __post_init__(self) -> None:
        rows = len(self.tiles_NHWC), len(self.labels_N), len(self.groups_N)
        if len(set(rows)) > 1:
            raise UsageError(
                "HZ-I64",
                "tiles, labels and groups are not of the same rows",
                where=self.task,
                expected=f"{rows[0]} labels and groups",
                got=f"{rows[1]} labels, {rows[2]} groups",
            )


def read(name: str, *, data_root: str | Path | None, tile_px: int, cache: str | Path) -> LabelledTiles:
    """Reads a task at a model's tile size; duplicates that lie in several groups join them into one.

    Args:
        name: Name of the task.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        tile_px: Side of the tiles in pixels.
        cache: Where decoded tiles are kept.

    Raises:
        UsageError: `HZ-E37`, the table's own split has a group on both sides; and what `Task.load` raises.
    """
    from histozoo.data import splits, tiles
    from histozoo.evaluate import official
    from histozoo.tasks import task

    declared = task(name)
    dataset = declared.load(data_root)
    official.check(declared, data_root, dataset)
    tiles_NHWC = tiles.pack(dataset, tile_px, Path(cache))
    groups: Sequence[str] = splits.merge_duplicates(list(dataset["group"]), tiles_NHWC)
    return LabelledTiles(
        task=name,
        lineage=declared.lineage,
        classes=tuple(declared.classes),
        tiles_NHWC=tiles_NHWC,
        labels_N=np.asarray(dataset["label"], dtype=np.int64),
        groups_N=np.asarray(groups),
        fingerprint=tiles.fingerprint(dataset),
    )
