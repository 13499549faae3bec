"""Where the tiles lie in a tar file: found by one pass over all of it, and kept.

A tar has no table of its members, and a reader that meets a damaged header takes it for the end without a word. Here the end must be the
end, every byte goes into the file's sha256, and every tile has a checksum, which JPEG itself has not.

Shapes: N tiles.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histozoo.data import kept
from histozoo.data.shards import check_same, damaged
from histozoo.errors import IntegrityError
from histozoo.header import looks_like, next_step
from histozoo.integrity import identity
from histozoo.tile_lists import TILE_SUFFIXES, printable

_RULE = "tiles of a tar, 1"
_CHUNK = 1 << 20


class TarIndex(NamedTuple):
    """What lies in one tar.

    Args:
        members_N4: int64 `[N, 4]`: where the header of each tile begins, where its bytes begin, how many they are, their CRC-32.
        sha256: Of the whole file.
        others: Members that are no tiles: labels, captions, links.
    """

    members_N4: NDArray[np.int64]
    sha256: str
    others: int


def index_tar(path: Path, cache: str | Path | None) -> TarIndex:
    """Returns the index of a tar; from `cache` where the file is still the one that was read.

    Args:
        path: A tar without compression. A tile is a member `KEY.jpg` (or another suffix of images) without another dot in its name.
        cache: Where indices are kept; the file is read each time where it is None.

    Raises:
        IntegrityError: `HZ-E39`, the file cannot be read, is no tar, is cut off, damaged, was changed since it was read first, or
            holds two pictures of one key.
        ResourceError: `HZ-F42`, the index cannot be written.
    """
    where = None if cache is None else kept.place(path, cache, _RULE)
    try:
        known = kept.recall(where, path) if where else None
        if known and known.current:
            return TarIndex(known.arrays["members"], str(known.arrays["sha256"]), int(known.arrays["others"]))
        before = identity(path)
        index = _scan(path)
        if identity(path) != before:
            raise damaged(path, "a file that nobody writes", "it was changed while it was read")
    except OSError as error:
        raise damaged(path, "a tar", error.strerror or str(error)) from error
    if known:
        check_same(path, str(known.arrays["sha256"]), index.sha256, where)
    if where:
        arrays = {"members": index.members_N4, "sha256": np.array(index.sha256)}
        kept.remember(where, {**arrays, "others": np.array(index.others)}, before)
    return index


def member_name(path: Path, header: int) -> str:
    """Returns the name of the member whose header begins at byte `header`."""
    with path.open("rb") as file:
        file.seek(header)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            found = tar.next()
    return printable(found.name) if found else f"byte {header:,}"


class _Hashed:
    """Reads a file once from front to back and hashes all of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _scan(path: Path) -> TarIndex:
    with path.open("rb") as file:
        hashed, found, keys, others = _Hashed(file), [], set[str](), 0
        try:
            with tarfile.open(fileobj=hashed, mode="r|", bufsize=_CHUNK) as tar:  # type: ignore[call-overload]
                for member in _members(tar):
                    key = _key(member)
                    if not key:
                        others += 1
                        continue
                    if key in keys:
                        got = f"{printable(member.name)} after another picture of this key"
                        raise damaged(path, "one picture of each key", got)
                    keys.add(key)
                    found.append((member.offset, member.offset_data, member.size, _checksum(tar, member)))
                end: int = tar.offset
        except (tarfile.TarError, EOFError) as error:
            raise _no_tar(path, error) from error
        while hashed.read(_CHUNK):
            pass
        _check_end(path, file, end)
    return TarIndex(np.array(found, dtype=np.int64).reshape(-1, 4), hashed.sha256.hexdigest(), others)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]  # a shard may hold a million


def _key(member: tarfile.TarInfo) -> str:
    """Returns what names the sample: folder and name up to the first dot; "" for what is no tile, such as `a.json` or `a.mask.png`."""
    folder, _, name = member.name.rpartition("/")
    stem, dot, kind = name.partition(".")
    tile = member.isreg() and not member.issparse() and f"{dot}{kind}".lower() in TILE_SUFFIXES
    return f"{folder}/{stem}" if stem and tile else ""


def _checksum(tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    value, left = 0, member.size
    with tar.extractfile(member) as data:  # type: ignore[union-attr]  # it is a regular file
        while part := data.read(_CHUNK):
            value, left = zlib.crc32(part, value), left - len(part)
    if left:
        raise tarfile.ReadError("unexpected end of data")
    return value


def _check_end(path: Path, file: IO[bytes], end: int) -> None:
    """Refuses a file whose last member is not followed by zeros alone: what tarfile took for the end is damage, or a second archive."""
    file.seek(end)
    size = 0
    while block := file.read(_CHUNK):
        if block.strip(b"\0"):
            got = "bytes that are no member; damaged there, or two archives in one file"
            raise damaged(f"{path}, byte {end:,}", "a member, or zeros up to the end", got)
        size += len(block)
    if size < tarfile.BLOCKSIZE:
        raise damaged(path, "zeros after the last member", f"it ends at byte {end + size:,}: cut off")


def _no_tar(path: Path, error: Exception) -> IntegrityError:
    size = path.stat().st_size
    with path.open("rb") as file:
        looks = looks_like(file.read(512), size)
    got = f"{size:,} bytes" + (f" that look like {looks}" if looks else f": {error}")
    return damaged(path, "a whole tar without compression", got, next_step(looks, ""))
