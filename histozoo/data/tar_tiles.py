"""Tiles of WebDataset shards: plain .tar files of `KEY.jpg` or `KEY.png`, read in place, tile by tile, at any position.

Shapes: G groups, N tiles of a shard.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data import decoding
from histozoo.data.ordering import Shards
from histozoo.data.shards import damaged
from histozoo.data.tar_index import index_tar, member_name
from histozoo.errors import UsageError

_OPEN_FILES = 64


class TarShards(Shards):
    """The tiles of one folder's tar files, in the order of their names. Nothing is held in memory but where each tile lies."""

    GROUP = 32
    """Tiles that follow one another in a shard and are read near to each other in time, for disks and networks that read ahead."""

    WINDOW = 128
    """Groups that are shuffled together: samples that follow one another come from so many places."""

    _members: tuple[NDArray[np.int64], ...]
    _first: NDArray[np.int64]
    _open: dict[int, _Descriptor]

    @classmethod
    def open(
        cls,
        files: tuple[Path, ...],
        folder: Path,
        *,
        px: int,
        cache: str | Path | None,
        window: int | None = None,
    ) -> TarShards:
        """Finds the tiles of each shard, by a pass over all of it the first time.

        Args:
            files: The shards, below `folder`.
            folder: What their names in the fingerprint are relative to.
            px: Side of the tiles that are shown, in pixels.
            cache: Where the index of each shard is kept.
            window: As `WINDOW`.

        Raises:
            IntegrityError: `HZ-E39`, a shard is damaged or was changed.
        """
        indices = [index_tar(path, cache) for path in files]
        places = [
            (number, first, min(cls.GROUP, len(index.members_N4) - first))
            for number, index in enumerate(indices)
            for first in range(0, len(index.members_N4), cls.GROUP)
        ]
        columns = np.array(places, dtype=np.int64).reshape(-1, 3).T
        told = [(p.relative_to(folder).as_posix(), i.sha256) for p, i in zip(files, indices, strict=True)]
        made = cls(
            files,
            columns[0],
            columns[2],
            window=window or cls.WINDOW,
            px=px,
            fingerprint=hashlib.sha256(repr(told).encode()).hexdigest(),
            ignored=sum(index.others for index in indices),
        )
        made._first, made._members, made._open = columns[1], tuple(i.members_N4 for i in indices), {}
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def name(self, group: int, row: int) -> str:
        """Returns shard and member."""
        path = self.files[self.file_of_group[group]]
        return f"{path}, {member_name(path, int(self._member(group, row)[0]))}"

    def image(self, group: int, row: int) -> bytes:
        """Returns the encoded tile.

        Raises:
            UsageError: `HZ-D27`, it is larger than a tile may be.
            IntegrityError: `HZ-E39`, its bytes are not those that were there when the shard was indexed, or the shard is gone.
        """
        _, start, size, checksum = self._member(group, row)
        if size > decoding.MAX_BYTES:
            what, expected = "the file is too large for a tile", f"at most {decoding.MAX_BYTES:,} bytes"
            raise UsageError("HZ-D27", what, where=self.name(group, row), expected=expected, got=f"{size:,}")
        number = int(self.file_of_group[group])
        try:
            # Reads at a place of its own: workers that were forked share the open file.
            data = os.pread(self._file(number).number, size, start)
        except OSError as error:
            raise damaged(self.files[number], "the shard", error.strerror or str(error)) from error
        if len(data) != size or zlib.crc32(data) != checksum:
            got = "other bytes" if len(data) == size else f"{len(data):,} bytes: cut off"
            where = f"{self.files[number]}, bytes {start:,} to {start + size:,}"
            raise damaged(where, "the tile that was there when training began", got)
        return data

    def _member(self, group: int, row: int) -> tuple[int, int, int, int]:
        members_N4 = self._members[self.file_of_group[group]]
        header, start, size, checksum = members_N4[self._first[group] + row].tolist()
        return header, start, size, checksum

    def _file(self, number: int) -> _Descriptor:
        if number not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open)))
            self._open[number] = _Descriptor(self.files[number])
        return self._open[number]


class _Descriptor:
    """A file that is open as long as this object lives."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)
