"""Tiles of finished chunks -> Parquet shards that `datasets` streams, with an index of rows and sha256 per shard.

Needs pyarrow, which comes with `datasets`; `datasets` itself is not imported. While shards are written, the disk holds the tiles twice.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from histozoo import durable
from histozoo.errors import UsageError
from histozoo.prepare.chunks import COLUMNS
from histozoo.prepare.journal import Journal
from histozoo.prepare.stores import unpacked

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

    from histozoo.tasks.base import Task

SHARD_BYTES = 1 << 28
"""Image bytes after which a shard ends: 256 MB."""

GROUP_BYTES = 1 << 24
GROUP_ROWS = 1024
"""A row group ends after so many image bytes or rows; it is what a reader holds in memory."""

INDEX, README = "index.json", "README.md"

_README = """---
configs:
- config_name: default
  data_files: shards/*.parquet
---
# {name}

{what}, cut and labelled by `histozoo prepare`; prepared.json says from what and how.

- licence of the images: {licence}
- source: {source}
- cite: {citation}
"""
"""What `datasets.load_dataset` takes the names of the shards from, which it would otherwise look for among all files."""


def write_shards(journal: Journal, chunks: int, task: Task) -> None:
    """Writes `shards/<n>.parquet`, `index.json` and `README.md` to the journal's table folder, from the beginning each time.

    No tile is decoded for it. `datasets.load_dataset(folder)` reads the result, and streams it.

    Raises:
        UsageError: `HZ-U76`, pyarrow is not installed.
        ResourceError: `HZ-F42`, the disk is full.
    """
    classes = task.classes
    schema, number = _schema(classes), {label: i for i, label in enumerate(classes)}
    tiles, folder = _Tiles(journal, chunks), journal.fresh("shards")
    index: list[dict[str, Any]] = []
    while tiles.more():
        path = folder / f"{len(index):05d}.parquet"
        rows = _write_shard(path, tiles, schema, number)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        index.append({"file": f"shards/{path.name}", "rows": rows, "sha256": sha256})
    journal.add(folder)
    facts = {"classes": list(classes), "rows": sum(s["rows"] for s in index), "shards": index}
    durable.write_json(journal.work / INDEX, facts)
    journal.add(journal.work / INDEX)
    what = f"{task.organ}, {task.stain}: {', '.join(classes)}"
    said = {"licence": task.stated_licence, "source": task.source, "citation": task.citation}
    durable.write_text(journal.work / README, _README.format(name=task.name, what=what, **said))
    journal.add(journal.work / README)


class _Tiles:
    """The rows of the table with the bytes of their tiles, one after the other."""

    def __init__(self, journal: Journal, chunks: int) -> None:
        self._rows = self._read(journal, chunks)
        self._next = next(self._rows, None)

    def more(self) -> bool:
        return self._next is not None

    def take(self) -> tuple[dict[str, str], bytes]:
        """Returns the cells of the next row and the bytes of its tile."""
        assert self._next is not None
        row, self._next = self._next, next(self._rows, None)
        return dict(zip(COLUMNS, row[0], strict=True)), row[1]

    @staticmethod
    def _read(journal: Journal, chunks: int) -> Iterator[tuple[list[str], bytes]]:
        for lines, pack in journal.lines(chunks):
            with lines.open(encoding="utf-8", newline="") as file:
                yield from zip(csv.reader(file), unpacked(pack), strict=True)


def _write_shard(path: Path, tiles: _Tiles, schema: pyarrow.Schema, number: Mapping[str, int]) -> int:
    """Writes the next shard and returns the number of its rows."""
    import pyarrow
    import pyarrow.parquet  # type: ignore[import-untyped]

    plain = [f.name for f in schema if f.name != "image"]
    n = 0

    def write(temporary: Path) -> None:
        nonlocal n
        with pyarrow.parquet.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=plain
        ) as writer:
            total = 0
            while tiles.more() and total < SHARD_BYTES:
                rows = _group(tiles, number)
                total += sum(len(row["image"]["bytes"]) for row in rows)
                n += len(rows)
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))

    durable.write_with(path, write)
    return n


def _group(tiles: _Tiles, number: Mapping[str, int]) -> list[dict[str, Any]]:
    """Returns the rows of the next row group."""
    rows: list[dict[str, Any]] = []
    size = 0
    while tiles.more() and size < GROUP_BYTES and len(rows) < GROUP_ROWS:
        cells, data = tiles.take()
        rows.append(
            {
                **{c: cells[c] for c in ("group", "split", "file", "source")},
                "image": {"bytes": data, "path": PurePosixPath(cells["file"]).name},
                "label": number[cells["label"]],
                "x": int(cells["x"]),
                "y": int(cells["y"]),
            }
        )
        size += len(data)
    return rows


def _schema(classes: Sequence[str]) -> pyarrow.Schema:
    """Returns the columns, with what `datasets` needs to know of them in the metadata."""
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(
            "HZ-U76",
            "Parquet shards need pyarrow, which is not installed",
            kept="all tiles that were cut",
            next_step="pip install 'histozoo[prepare]', and run the same command again",
        ) from error
    text = ("group", "split", "file", "source")
    fields = [
        ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        ("label", pyarrow.int64()),
        *((name, pyarrow.string()) for name in text),
        ("x", pyarrow.int32()),
        ("y", pyarrow.int32()),
    ]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        **{name: {"dtype": "string", "_type": "Value"} for name in text},
        **{name: {"dtype": "int32", "_type": "Value"} for name in ("x", "y")},
    }
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
