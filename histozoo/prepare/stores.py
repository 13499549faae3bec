"""Where a chunk's tiles are put while it is cut: single files, or one pack that Parquet shards are made from.

A pack is one tile after the other in the order of the rows, each behind its length in eight bytes (little-endian): thousands of small files
would have to be made and removed again for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from histozoo import durable

_LENGTH_BYTES = 8


class Store(Protocol):
    """Takes the tiles of one picture after the other; a picture that fails is forgotten."""

    def put(self, name: str, data: bytes) -> None:
        """Writes one tile."""
        ...

    def keep(self) -> None:
        """Says that the picture is complete."""
        ...

    def forget(self) -> None:
        """Removes the tiles put since the last picture that was kept."""
        ...

    def close(self) -> None:
        """Ends the writing."""
        ...


class Files:
    """One file per tile in `folder`, which must not exist."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._names: list[str] = []

    def put(self, name: str, data: bytes) -> None:
        """Writes one tile."""
        durable.write_unsynced(self.folder / name, data)
        self._names.append(name)

    def keep(self) -> None:
        """Says that the picture is complete."""
        self._names = []

    def forget(self) -> None:
        """Removes the tiles put since the last picture that was kept."""
        for name in self._names:
            (self.folder / name).unlink()
        self._names = []

    def close(self) -> None:
        """Ends the writing."""


class Pack:
    """All tiles in the file `path`, which must not exist."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self._file = durable.Growing(path)
        self._kept = 0

    def put(self, name: str, data: bytes) -> None:
        """Writes one tile."""
        self._file.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)

    def keep(self) -> None:
        """Says that the picture is complete."""
        self._kept = self._file.size

    def forget(self) -> None:
        """Removes the tiles put since the last picture that was kept."""
        self._file.cut_back(self._kept)

    def close(self) -> None:
        """Ends the writing."""
        self._file.close()


def unpacked(path: Path) -> Iterator[bytes]:
    """Gives the tiles of a pack in the order they were put."""
    with path.open("rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield file.read(int.from_bytes(length, "little"))
