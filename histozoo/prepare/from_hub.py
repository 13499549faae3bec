"""A task's tiles from a dataset repository on the Hugging Face Hub, fetched by `datasets.load_dataset`.

Such copies hold pictures and labels, and seldom the names from which patients and slides are read. What is fetched is written as a table
of tiles, byte for byte as the repository holds them, and goes through the same engine as an archive does.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histozoo import durable
from histozoo.errors import ResourceError, UsageError
from histozoo.prepare.layouts.tile_table import as_is
from histozoo.prepare.pool import cores
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "val",
    "valid": "val",
    "val": "val",
    "test": "test",
}
"""The Hub's words for splits, and ours; any other split is none."""
_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
}


@dataclass(frozen=True)
class Columns:
    """Where a Hub dataset keeps picture, label and group; the group is "" where it keeps none."""

    image: str
    label: str
    group: str


def fetch(task: Task, folder: str | Path, *, revision: str | None = None) -> tuple[Task, Path]:
    """Downloads the task's Hub dataset and writes it as a table of tiles.

    Args:
        task: A task with `hub`, whose tiles are whole pictures.
        folder: Where the table is written; what is there already is kept, not fetched again.
        revision: Commit or tag of the dataset repository.

    Returns:
        The task, such that `prepare` takes its tiles from the folder, and the folder.

    Raises:
        UsageError: `HZ-U30` no Hub dataset is known for the task, or its tiles are cut from larger pictures; `HZ-E34` other label words;
            `HZ-U73` no column of pictures or labels.
        ResourceError: `HZ-B14`, the Hub cannot be reached or refuses.
    """
    if not task.hub or not (task.preparation and isinstance(task.preparation.rule, Whole)):
        raise UsageError(
            "HZ-U30",
            f"no Hub dataset holds the tiles of task {task.name!r}"
            if not task.hub
            else f"the tiles of {task.name!r} are cut from pictures",
            next_step=f"fetch the archive from {task.source} and give it with --from",
        )
    folder = Path(folder) / "hub"
    if not folder.exists():
        parts = _load(task, revision)
        with durable.staged_folder(folder) as staged:
            _write(task, parts, staged)
    grouped = replace(as_is("hub"), pictures=task.preparation.pictures, parts=(task.hub,))
    return replace(task, preparation=grouped, group_rule=None, group_column="group"), folder


def _load(task: Task, revision: str | None) -> dict[str, Dataset]:
    import datasets

    try:
        loaded = datasets.load_dataset(task.hub, revision=revision, num_proc=min(4, cores()))
    except Exception as error:  # the client has no common base for what can go wrong on the way
        raise ResourceError(
            "HZ-B14",
            f"the dataset of task {task.name!r} could not be fetched from the Hub",
            where=task.hub,
            got=f"{type(error).__name__}: {error}",
            kept="nothing was written; what was downloaded stays in the cache of `datasets`",
            next_step=f"try again, or fetch the archive from {task.source} and give it with --from",
        ) from error
    return dict(loaded)


def _write(task: Task, parts: dict[str, Dataset], folder: Path) -> None:
    import datasets

    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(["file", "label", "group", "split"])
    for name, part in parts.items():
        columns = _columns(task, part)
        part = part.cast_column(columns.image, datasets.Image(decode=False))
        words = _words(task, part, columns.label)
        for row, stored, word, group in _rows(part, columns, words):
            file = f"images/{name}/{row:07d}{_suffix(stored)}"
            durable.write_bytes(folder / file, stored)
            lines.writerow([file, word, group or f"{name}-{row}", SPLITS.get(name.lower(), "")])
        if not columns.group:
            warnings.warn(
                f"HZ-E37 {task.hub} does not say which {name} tiles belong to one patient or slide: each is a group of its own, and a "
                "split of this copy may put one patient on both sides",
                stacklevel=4,
            )
    durable.write_text(folder / "labels.csv", table.getvalue())


def _rows(part: Dataset, columns: Columns, words: dict[Any, str]) -> Iterator[tuple[int, bytes, str, str]]:
    for row, value in enumerate(part):
        stored = value[columns.image]
        data = stored["bytes"] if stored["bytes"] is not None else Path(stored["path"]).read_bytes()
        yield row, data, words[value[columns.label]], str(value[columns.group]) if columns.group else ""


def _columns(task: Task, part: Dataset) -> Columns:
    """Finds the columns by type and name.

    Raises:
        UsageError: `HZ-U73`, not exactly one column of pictures, or no column named `label` or `labels`.
    """
    import datasets

    images = [name for name, kind in part.features.items() if isinstance(kind, datasets.Image)]
    label = next((name for name in ("label", "labels") if name in part.features), "")
    group = next(
        (
            name
            for name in ("patient", "patient_id", "slide", "slide_id", "group", "case")
            if name in part.features
        ),
        "",
    )
    if len(images) != 1 or not label:
        raise UsageError(
            "HZ-U73",
            "the Hub dataset has no plain columns of pictures and labels",
            where=task.hub,
            expected="one column of images, and one named label",
            got=", ".join(f"{name}: {type(kind).__name__}" for name, kind in part.features.items()),
            next_step=f"fetch the archive from {task.source} and give it with --from",
        )
    return Columns(images[0], label, group)


def _words(task: Task, part: Dataset, label: str) -> dict[Any, str]:
    """Returns the class of each stored label, by its word and never by its number: the Hub's order need not be ours.

    Raises:
        UsageError: `HZ-E34`, a word that is no class of the task.
    """
    feature = part.features[label]
    names = getattr(feature, "names", None)
    stored = dict(enumerate(names)) if names else {value: str(value) for value in part.unique(label)}
    ours = {_plain(word): word for word in task.classes}
    unknown = [word for word in stored.values() if _plain(word) not in ours]
    if unknown:
        raise UsageError(
            "HZ-E34",
            "the Hub dataset has labels that are no classes of the task",
            where=f"{task.hub}, column {label}",
            expected=", ".join(task.classes),
            got=", ".join(unknown),
            next_step=f"fetch the archive from {task.source} and give it with --from",
        )
    return {value: ours[_plain(word)] for value, word in stored.items()}


def _plain(word: str) -> str:
    return "".join(c for c in word.casefold() if c.isalnum())


def _suffix(data: bytes) -> str:
    return next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), ".bin")
