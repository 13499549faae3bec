"""Parquet shards as `histozoo prepare --shards` writes them -> a `datasets.Dataset`, after every shard was compared with the index."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histozoo.errors import IntegrityError

if TYPE_CHECKING:
    from datasets import Dataset

INDEX = "index.json"


def read_shards(folder: str | Path, *, cache_dir: str | Path | None = None) -> Dataset:
    """Opens prepared shards with the columns that `Task.load` gives.

    Args:
        folder: Holds `index.json` and the shards it lists.
        cache_dir: Where `datasets` keeps its memory-mapped copy; its own default where it is None.

    Returns:
        Rows with `image` (decoded strictly when read), `label` (class number), `group` and `file`.

    Raises:
        IntegrityError: `HZ-E39`, a shard is missing, not listed, cut off or altered, or two rows name the same tile; names the shard.
    """
    import datasets

    from histozoo.data.feature import Tile

    folder = Path(folder)
    index = read_index(folder)
    paths = [str(folder / shard["file"]) for shard in index["shards"]]
    columns = ["image", "label", "group", "file"]
    opened = datasets.Dataset.from_parquet(paths, columns=columns, cache_dir=cache_dir)
    _check_keys(folder, index, opened)
    return opened.cast_column("image", Tile())


def read_index(folder: Path) -> dict[str, Any]:
    """Returns the index after a look at every shard; raises `HZ-E39` as `read_shards` does."""
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        listed = {shard["file"]: shard["sha256"] for shard in index["shards"]}
        if sum(shard["rows"] for shard in index["shards"]) != index["rows"]:
            raise ValueError("the rows of the shards do not sum up")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _differ(folder / INDEX, "an index of shards", f"{type(error).__name__}: {error}") from error
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*.parquet")}
    if missing := sorted(listed.keys() - there):
        raise _differ(
            folder / missing[0], "the shard that the index lists", f"no such file ({len(missing)} missing)"
        )
    if extra := sorted(there - listed.keys()):
        raise _differ(
            folder / extra[0], "only the shards that the index lists", f"{len(extra)} that it does not list"
        )
    for name, sha256 in listed.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            size = (folder / name).stat().st_size
            raise _differ(folder / name, f"sha256 {sha256}", f"sha256 {found} ({size:,} bytes)")
    return index


def _check_keys(folder: Path, index: dict[str, Any], opened: Dataset) -> None:
    """Compares the rows with the index; the sha256 says that they are as written, this that they were written well."""
    names: list[str] = opened.data.column("file").to_pylist()
    if len(names) != index["rows"]:
        raise _differ(folder / INDEX, f"{index['rows']:,} rows", f"{len(names):,}")
    ends = np.cumsum([shard["rows"] for shard in index["shards"]])
    seen: set[str] = set()
    for row, name in enumerate(names):
        if name in seen:
            shard = index["shards"][int(np.searchsorted(ends, row, side="right"))]
            raise _differ(folder / shard["file"], "every tile once", f"{name} for the second time")
        seen.add(name)


def damaged(where: object, expected: str, got: str, step: str = "") -> IntegrityError:
    """Returns the error `HZ-E39` for a shard that is damaged, or another one than when it was first read."""
    return IntegrityError(
        "HZ-E39",
        "a shard is damaged or was changed",
        where=where,
        expected=expected,
        got=got,
        kept="nothing was trained on it",
        next_step=step or "restore the shard from its origin",
    )


def check_same(path: Path, first: str, now: str, record: Path | None) -> None:
    """Compares a shard's sha256 with that of when it was first read.

    Args:
        path: The shard.
        first: sha256 of then.
        now: sha256 of now.
        record: Where it is written down what was read then.

    Raises:
        IntegrityError: `HZ-E39`, they differ.
    """
    if first != now:
        step = f"restore it; or, if the change is meant, delete {record}"
        raise damaged(path, f"sha256 {first}, as first read", f"sha256 {now}", step)


def _differ(where: Path, expected: str, got: str) -> IntegrityError:
    return IntegrityError(
        "HZ-E39",
        "a shard is not what the index says",
        where=where,
        expected=expected,
        got=got,
        kept="nothing was read",
        next_step="restore the shard, or prepare the task again",
    )
