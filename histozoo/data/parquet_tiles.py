"""Tiles of Parquet shards, read row group by row group: as `histozoo prepare --shards` writes them, or as `datasets` does.

Shapes: G row groups.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data import kept
from histozoo.data.ordering import Shards
from histozoo.data.shards import INDEX, check_same, damaged, read_index
from histozoo.errors import UsageError
from histozoo.integrity import identity, sha256_file

MAX_GROUP_BYTES = 1 << 30
"""Largest row group that is read: each worker holds several whole."""

_RULE = "sha256 of a shard, 1"


class ParquetShards(Shards):
    """The row groups of one folder's shards, in the order of its index or of their names, and the last of them that were read."""

    WINDOW = 4
    """Row groups that are shuffled together and held in memory, 16 MB each at most as written by `prepare`."""

    _group_in_file: NDArray[np.int64]
    _columns: tuple[str, ...]
    _held: dict[int, Any]

    @classmethod
    def open(
        cls, folder: Path, names: list[str], *, px: int, cache: Path | None, window: int | None = None
    ) -> ParquetShards:
        """Compares the shards with their index, or with when they were first read, and reads the sizes of their row groups.

        Args:
            folder: Holds the shards.
            names: The shards, relative to it; not needed where the folder holds an index.
            px: Side of the tiles that are shown, in pixels.
            cache: Where the sha256 of each shard is kept, where there is no index.
            window: As `WINDOW`.

        Raises:
            IntegrityError: `HZ-E39`, a shard is damaged or was changed.
            UsageError: `HZ-U86`, a shard has no column of images, or row groups that are too large.
        """
        if (folder / INDEX).exists():
            listed = [(s["file"], s["sha256"]) for s in read_index(folder)["shards"]]
        else:
            listed = [(name, _sha256(folder / name, cache)) for name in names]
        files = tuple(folder / name for name, _ in listed)
        places: list[tuple[int, int, int]] = []
        columns = []
        for number, path in enumerate(files):
            column, sizes = _layout(path)
            columns.append(column)
            places += [(number, g, size) for g, size in enumerate(sizes) if size]
        column_3G = np.array(places, dtype=np.int64).reshape(-1, 3).T
        told = hashlib.sha256(repr(listed).encode()).hexdigest()
        made = cls(files, column_3G[0], column_3G[2], window=window or cls.WINDOW, px=px, fingerprint=told)
        made._group_in_file, made._columns, made._held = column_3G[1], tuple(columns), {}
        return made

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads its own window.
        return {**self.__dict__, "_held": {}}

    def name(self, group: int, row: int) -> str:
        """Returns shard, row group and row."""
        file, in_file = self.files[self.file_of_group[group]], int(self._group_in_file[group])
        return f"{file}, row group {in_file}, row {row}"

    def image(self, group: int, row: int) -> bytes:
        """Returns the encoded tile; the row groups of one window are kept.

        Raises:
            UsageError: `HZ-D24`, the row holds none.
            IntegrityError: `HZ-E39`, the shard was damaged since it was opened.
        """
        if group not in self._held:
            while len(self._held) >= self.window:
                self._held.pop(next(iter(self._held)))
            self._held[group] = self._read(group)
        found = self._held[group][row].as_py()
        if found is None:
            what = "the tile cannot be decoded"
            got = "a row without bytes; a path alone names a file elsewhere"
            raise UsageError("HZ-D24", what, where=self.name(group, row), expected="an encoded tile", got=got)
        return bytes(found)

    def _read(self, group: int) -> Any:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]

        number = int(self.file_of_group[group])
        path, column = self.files[number], self._columns[number]
        try:
            with parquet.ParquetFile(path) as file:
                table = file.read_row_group(int(self._group_in_file[group]), columns=[column])
        except (OSError, pyarrow.ArrowException) as error:
            raise damaged(path, "the shard that was there when training began", str(error)) from error
        chunk = table.column(0).combine_chunks()
        return chunk.field("bytes") if column.endswith(".bytes") else chunk


def _sha256(path: Path, cache: Path | None) -> str:
    """Returns the sha256 of a shard; from `cache` where the file is still the one that was read."""
    where = None if cache is None else kept.place(path, cache, _RULE)
    try:
        known = kept.recall(where, path) if where else None
        if known and known.current:
            return str(known.arrays["sha256"])
        before, found = identity(path), sha256_file(path)
    except OSError as error:
        raise damaged(path, "a Parquet file", error.strerror or str(error)) from error
    if known:
        check_same(path, str(known.arrays["sha256"]), found, where)
    if where:
        kept.remember(where, {"sha256": np.array(found)}, before)
    return found


def _layout(path: Path) -> tuple[str, list[int]]:
    """Returns the column of encoded tiles, and the rows of each row group."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            facts, schema = file.metadata, file.schema_arrow
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged(path, "a whole Parquet file", str(error)) from error
    groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
    found = [column for field in schema if (column := _column_of(field))]
    chosen = [c for c in found if c.partition(".")[0] == "image"] or found
    largest = max((g.total_byte_size for g in groups), default=0)
    if len(chosen) != 1 or largest > MAX_GROUP_BYTES:
        raise UsageError(
            "HZ-U86",
            "tiles cannot be read from this shard",
            where=path,
            expected=f"one column of encoded tiles, or one called image; row groups of {MAX_GROUP_BYTES:,} bytes at most",
            got=f"columns {', '.join(schema.names)}; row groups of up to {largest:,} bytes",
            kept="nothing was trained",
            next_step="write it again with such a column, and a row_group_size of some hundred tiles",
        )
    return chosen[0], [g.num_rows for g in groups]


def _column_of(field: Any) -> str:
    """Returns how to read a column of encoded images, as bytes or as `datasets` stores them; "" for any other."""
    from pyarrow import types

    if types.is_binary(field.type) or types.is_large_binary(field.type):
        return str(field.name)
    if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
        return f"{field.name}.bytes"
    return ""
