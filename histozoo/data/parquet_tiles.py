"""Tiles of Parquet shards as `histozoo prepare --shards` writes them, read row group by row group.

Shapes: G row groups.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data.ordering import Shards
from histozoo.data.shards import read_index


class ParquetShards(Shards):
    """The row groups of one folder's shards, in the order of its index, and the last of them that were read."""

    WINDOW = 4
    """Row groups that are shuffled together and held in memory, 16 MB each at most as written by `prepare`."""

    group_in_file: NDArray[np.int64]
    _held: dict[int, Any]

    @classmethod
    def open(cls, folder: Path, *, px: int, window: int | None = None) -> ParquetShards:
        """Compares the shards with their index and reads the sizes of their row groups.

        Raises:
            IntegrityError: `HZ-E39`, a shard is not what its index says.
        """
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]

        listed = read_index(Path(folder))["shards"]
        files = tuple(Path(folder) / s["file"] for s in listed)
        places: list[tuple[int, int, int]] = []
        for number, path in enumerate(files):
            facts = parquet.read_metadata(path)
            places += [(number, g, facts.row_group(g).num_rows) for g in range(facts.num_row_groups)]
        columns = np.array([p for p in places if p[2]], dtype=np.int64).reshape(-1, 3).T
        told = hashlib.sha256(repr([(s["file"], s["sha256"]) for s in listed]).encode()).hexdigest()
        made = cls(files, columns[0], columns[2], window=window or cls.WINDOW, px=px, fingerprint=told)
        made.group_in_file, made._held = columns[1], {}
        return made

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads its own window.
        return {**self.__dict__, "_held": {}}

    def name(self, group: int, row: int) -> str:
        """Returns shard, row group and row."""
        file, in_file = self.files[self.file_of_group[group]], int(self.group_in_file[group])
        return f"{file}, row group {in_file}, row {row}"

    def image(self, group: int, row: int) -> bytes:
        """Returns the encoded tile; the row groups of one window are kept."""
        if group not in self._held:
            import pyarrow.parquet as parquet

            while len(self._held) >= self.window:
                self._held.pop(next(iter(self._held)))
            with parquet.ParquetFile(self.files[self.file_of_group[group]]) as file:
                table = file.read_row_group(int(self.group_in_file[group]), columns=["image.bytes"])
            self._held[group] = table.column("image").combine_chunks().field("bytes")
        found: bytes = self._held[group][row].as_py()
        return found
