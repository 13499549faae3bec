"""Every tile of a task, read once: what its file says, its statistics, and small pictures to compare and to show.

Shapes: N tiles, h w of a thumbnail, R A rings and angles, C colours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo.audit import statistics
from histozoo.audit.statistics import FileFacts
from histozoo.data import rings, tiles
from histozoo.data.decoding import decode
from histozoo.errors import HistozooError, UsageError
from histozoo.task_columns import column
from histozoo.tasks.base import Task

if TYPE_CHECKING:
    from datasets import Dataset

THUMB_PX = 32
SHOWN_PX = 96
_TOGETHER = 4


@dataclass(kw_only=True, eq=False)
class Rows:
    """The rows of a task as its table has them; nothing is decoded yet.

    Args:
        task: The declaration.
        names, groups, labels_N: Of every row.
        splits: Official split of every row, empty where the table names none.
        sources: Name of the picture that a tile was cut from, empty where the table names none.
        stored: Row number -> path or bytes of its picture.
    """

    task: Task
    names: list[str]
    groups: list[str]
    labels_N: NDArray[np.int64]
    splits: list[str]
    sources: list[str]
    stored: Stored


class Stored:
    """Paths or bytes of a data set's pictures, some rows at a time: the bytes of shards never lie in memory together."""

    _AT_ONCE = 256

    def __init__(self, dataset: Dataset) -> None:
        self._images = dataset.select_columns(["image"]).with_format("arrow")
        self._start, self._block = -1, []  # type: int, list[dict[str, Any]]

    def __getitem__(self, row: int) -> dict[str, Any]:
        start = row // self._AT_ONCE * self._AT_ONCE
        if start != self._start:
            self._block = self._images[start : start + self._AT_ONCE]["image"].to_pylist()
            self._start = start
        return self._block[row - start]


@dataclass(kw_only=True, eq=False)
class Read:
    """What was read of the rows that were drawn.

    Args:
        rows: All rows of the task.
        drawn_N: Row numbers whose pixels are here, increasing.
        values: Statistic -> one number per drawn row.
        facts: The header of each drawn row's file.
        pixels: sha256 of each drawn row's decoded pixels and size.
        thumbs_NhwC: uint8 `[N, 32, 32, 3]`.
        contrast_NRA, colour_NraC: Of `rings.ringed`.
        shown: Row number -> picture of at most 96 px, for the sheets.
        refused: Tiles that cannot be decoded: name, code, reason.
    """

    rows: Rows
    drawn_N: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    facts: list[FileFacts]
    pixels: list[str]
    thumbs_NhwC: NDArray[np.uint8]
    contrast_NRA: NDArray[np.int8]
    colour_NraC: NDArray[np.uint8]
    shown: dict[int, Image.Image] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)

    @property
    def labels_N(self) -> NDArray[np.int64]:
        """Class numbers of the drawn rows."""
        return self.rows.labels_N[self.drawn_N]

    def cells(self, column: str) -> list[str]:
        """Returns `names`, `groups`, `splits` or `sources` of the drawn rows."""
        of_all = getattr(self.rows, column)
        return [of_all[row] for row in self.drawn_N.tolist()]


def read_rows_of(task: Task, data_root: str | Path | None) -> Rows:
    """Opens a task and adds what its table says beyond the data set's columns; errors are those of `Task.load`."""
    dataset = task.load(data_root)
    names = list(dataset["file"][:])
    return Rows(
        task=task,
        names=names,
        groups=[str(group) for group in dataset["group"][:]],
        labels_N=np.asarray(dataset["label"][:], dtype=np.int64),
        splits=column(task, data_root, dataset, names, "split"),
        sources=column(task, data_root, dataset, names, "source"),
        stored=Stored(dataset),
    )


def draw(rows: Rows, sample: int | None, *, seed: int) -> NDArray[np.int64]:
    """Returns the rows to read: all, or about `sample`, each class by its share and at least 50, four of each group by turns.

    Copies lie in one group, so a few of it are taken together; a probe needs many groups, so no more than a few.
    """
    n = len(rows.names)
    if sample is None or n <= sample:
        return np.arange(n)
    order = {name: place for place, name in enumerate(_shuffled(sorted(set(rows.groups)), seed))}
    seen: dict[str, int] = {}
    turn_N = np.array([_bump(seen, group) // _TOGETHER for group in rows.groups])
    place_N = turn_N * len(order) + np.array([order[group] for group in rows.groups])
    chosen = []
    for label in np.unique(rows.labels_N):
        of_class = np.flatnonzero(rows.labels_N == label)
        quota = max(50, round(sample * len(of_class) / n))
        chosen.append(of_class[np.argsort(place_N[of_class], kind="stable")][:quota])
    return np.sort(np.concatenate(chosen))


def _shuffled(names: list[str], seed: int) -> list[str]:
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def to_show(rows: Rows, drawn_N: NDArray[np.int64], per_class: int, *, seed: int) -> set[int]:
    """Returns the rows whose pictures go on the sheets: of each class so many, no group twice while there are others."""
    chosen: set[int] = set()
    random = np.random.default_rng([seed, 1])
    for label in np.unique(rows.labels_N[drawn_N]):
        of_class = random.permutation(drawn_N[rows.labels_N[drawn_N] == label]).tolist()
        seen: dict[str, int] = {}
        turns = [(_bump(seen, rows.groups[row]), row) for row in of_class]
        chosen |= {row for _, row in sorted(turns, key=lambda turn: turn[0])[:per_class]}
    return chosen


def _bump(seen: dict[str, int], group: str) -> int:
    """Returns how often the group was seen before."""
    seen[group] = seen.get(group, -1) + 1
    return seen[group]


def read(
    rows: Rows, drawn_N: NDArray[np.int64], shown: set[int], *, on_tile: Callable[[], None] = lambda: None
) -> Read:
    """Decodes the drawn rows and measures them; what cannot be decoded is listed, and nothing takes its place."""
    kept: list[int] = []
    values: dict[str, list[float]] = {}
    parts: dict[str, list[Any]] = {"facts": [], "pixels": [], "thumbs": [], "contrast": [], "colour": []}
    pictures, refused = {}, []
    for row, facts, image in images(rows, drawn_N):
        on_tile()
        if isinstance(image, HistozooError):
            refused.append(
                {"name": rows.names[row], "code": image.code, "reason": f"{image.what}: {image.got}"}
            )
            continue
        kept.append(row)
        _measure(image, facts, values, parts)
        if row in shown:
            pictures[row] = small(image)
    return Read(
        rows=rows,
        drawn_N=np.array(kept, dtype=np.int64),
        values={name: np.array(column, dtype=np.float64) for name, column in values.items()},
        facts=parts["facts"],
        pixels=parts["pixels"],
        thumbs_NhwC=_stack(parts["thumbs"], (THUMB_PX, THUMB_PX, 3), np.uint8),
        contrast_NRA=_stack(parts["contrast"], (rings.R, rings.A), np.int8),
        colour_NraC=_stack(parts["colour"], (rings.R // 4, rings.A // 4, 3), np.uint8),
        shown=pictures,
        refused=refused,
    )


def _measure(
    image: Image.Image, facts: FileFacts, values: dict[str, list[float]], parts: dict[str, list[Any]]
) -> None:
    tile_HWC = np.asarray(image)
    for name, value in {**statistics.of_tile(tile_HWC), **statistics.of_file(facts)}.items():
        values.setdefault(name, []).append(float(value))
    square_HWC = tiles.fit(image, rings.PX)
    turned = rings.ringed(square_HWC)
    step = rings.PX // THUMB_PX
    thumb = square_HWC.reshape(THUMB_PX, step, THUMB_PX, step, 3).mean(axis=(1, 3), dtype=np.float32)
    parts["facts"].append(facts)
    parts["pixels"].append(hashlib.sha256(repr(tile_HWC.shape).encode() + tile_HWC.tobytes()).hexdigest())
    parts["thumbs"].append(np.rint(thumb).astype(np.uint8))
    parts["contrast"].append(turned.contrast_RA)
    parts["colour"].append(turned.colour_raC)


def _stack(parts: list[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.stack(parts) if parts else np.empty((0, *shape), dtype=dtype)


def small(image: Image.Image) -> Image.Image:
    """Returns the tile at its own shape, the longer side `SHOWN_PX`; small tiles are enlarged without smoothing."""
    scale = SHOWN_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def images(
    rows: Rows, drawn_N: NDArray[np.int64]
) -> Iterator[tuple[int, FileFacts, Image.Image | HistozooError]]:
    """Yields row, file header and tile, or the error in its place; a picture cut into consecutive rows is decoded once."""
    from histozoo.data.feature import split_fragment

    def key(row: int) -> object:
        value = rows.stored[row]
        return row if value["bytes"] is not None else split_fragment(value["path"])[0]

    for _, same in groupby(drawn_N.tolist(), key=key):
        whole: Image.Image | HistozooError | None = None
        for row in same:
            value = rows.stored[row]
            path, box = ("", None) if value["bytes"] is not None else split_fragment(value["path"])
            if whole is None:
                facts, whole = _open(value["bytes"], path)
            yield row, facts, whole if isinstance(whole, HistozooError) or not box else whole.crop(box)


_NO_FACTS = FileFacts(width=1, height=1, bytes=0, format="", mode="")


def _open(data: bytes | None, path: str) -> tuple[FileFacts, Image.Image | HistozooError]:
    try:
        data = Path(path).read_bytes() if data is None else data
        image = decode(data)
        return statistics.file_facts(data), image
    except HistozooError as error:
        return _NO_FACTS, error
    except OSError as error:
        return _NO_FACTS, UsageError("HZ-D24", "the tile cannot be read", where=path, got=str(error))
