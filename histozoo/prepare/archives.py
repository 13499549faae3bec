"""Archives read in place: what a zip or tar holds, checked as a whole before anything is extracted.

| kind | listed | a member is read |
|---|---|---|
| zip | from its directory | by seeking; its CRC is checked |
| tar | header by header, to its end marker | by seeking |
| tar.gz, .gz (and bz2, xz) | after it was decompressed once, as a whole, which checks it | from the decompressed file |

No file is held open and a member is found by its offset alone, so processes that fork share one index and no file position.
What a file is called decides whether it is taken for an archive; which kind it is, its first bytes say: browsers decompress a tar.gz
and keep its name. Standard library only.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from histozoo.prepare.archive_tables import CHUNK, Found, Member, chunks, last_of_tar, read_table
from histozoo.prepare.member_names import check_distinct, is_junk
from histozoo.prepare.source_errors import bomb, damaged, looks_like, opened

__all__ = ["Member", "chunks", "index", "is_archive", "is_compressed", "is_packed", "unpack", "unpacked_name"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Ends of names that are mounted as folders."""

PACKED = (".gz", ".bz2", ".xz")
"""Ends of names that are one compressed file, where the name is not that of an archive."""

MAX_BYTES = 1 << 42
"""Most that one archive may unpack to: 4 TiB. The largest public sets of slides lie unpacked."""

MAX_RATIO = 500
"""How many times its own size an archive may unpack to, where that is more than `FREE_BYTES`; maps of classes reach about 200."""

FREE_BYTES = 1 << 28
"""An archive that unpacks to less than 256 MiB is no bomb, whatever its ratio."""

_OPENERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_BAD_STREAM = (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)


def is_archive(name: str) -> bool:
    """Whether a file of this name is mounted as a folder."""
    return name.lower().endswith(ARCHIVES)


def is_packed(name: str) -> bool:
    """Whether a file of this name is one compressed file that is no archive."""
    return name.lower().endswith(PACKED) and not is_archive(name)


def unpacked_name(name: str) -> str:
    """Returns the name of what a compressed file or tar holds: `x.h5` of `x.h5.gz`, `x.tar` of `x.tgz`."""
    stem, _, end = name.rpartition(".")
    return f"{stem}.tar" if end.lower() in ("tgz", "tbz2", "txz") else stem


def is_compressed(path: Path) -> bool:
    """Whether a file begins as a gzip, bzip2 or xz stream does.

    Raises:
        ResourceError: `HZ-U74`, it cannot be opened.
    """
    with opened(path) as file:
        return _opener(file) is not None


def index(path: Path, where: object = "") -> tuple[dict[str, Member], int]:
    """Lists the files of a zip or an uncompressed tar, sorted by name, and checks it as a whole; nothing is written.

    Args:
        path: The archive.
        where: What errors call it; the path where nothing is given.

    Returns:
        The files, and how many were left out as junk or as links that lead to no file.

    Raises:
        UsageError: `HZ-U72`, a name or a link leads out, is there twice, or is of a device.
        IntegrityError: `HZ-U74`, truncated, damaged, encrypted, empty or no archive; `HZ-U75`, a decompression bomb.
        ResourceError: `HZ-U74`, the file cannot be opened.
    """
    where = where or path
    found = read_table(path, where)
    kept = [one for one in found if one.name and not is_junk(one.name)]
    check_distinct([one.name for one in kept], where)
    by_name = {one.name: one for one in sorted(kept)}
    members = {
        name: member for name, one in by_name.items() if (member := _followed(one, by_name)) is not None
    }
    if not members:
        raise damaged(where, what="the archive holds no file", expected="files", got="none")
    _check_size(path, where, members)
    return members, len(found) - len(members)


def _followed(one: Found, by_name: dict[str, Found]) -> Member | None:
    """Returns what a line stands for; a link to a folder, to nothing or to itself stands for no file."""
    for _ in range(40):  # as many links as the system follows
        if not one.link:
            return one.member
        if one.link not in by_name:
            return None
        one = by_name[one.link]
    return None


def _check_size(path: Path, where: object, members: dict[str, Member]) -> None:
    size, total = path.stat().st_size, sum(member.size for member in members.values())
    limit = _limit(size)
    if total > limit and any(member.deflated for member in members.values()):
        worst = max(members, key=lambda name: members[name].size)
        raise bomb(where, worst, expected=f"at most {limit:,} bytes from {size:,}", got=f"{total:,} bytes")


def _limit(size: int) -> int:
    return min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * size))


def unpack(path: Path, target: Path) -> None:
    """Decompresses a gzip, bzip2 or xz file as a whole into `target`, which must not exist, and checks what the stream has for a check.

    Raises:
        IntegrityError: `HZ-U74`, truncated, damaged or no such stream; of a tar the last member is named; `HZ-U75`, a bomb.
        ResourceError: `HZ-U74`, the file cannot be opened.
    """
    with opened(path) as file:
        size = path.stat().st_size
        opener = _opener(file)
        if opener is None:
            raise damaged(path, expected="a gzip, bzip2 or xz file", got=looks_like(file.read(64)))
        with opener(file) as stream, target.open("xb") as out:
            while chunk := _next_chunk(path, stream, out):
                if out.tell() + len(chunk) > _limit(size):
                    raise bomb(path, "", expected=f"at most {_limit(size):,} bytes from {size:,}", got="more")
                out.write(chunk)


def _opener(file: BinaryIO) -> Callable[[BinaryIO], Any] | None:
    """Returns what decompresses the file, by its first bytes; leaves it at its beginning."""
    head = file.read(6)
    file.seek(0)
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)


def _next_chunk(path: Path, stream: Any, out: BinaryIO) -> bytes:
    try:
        chunk: bytes = stream.read1(CHUNK)  # what comes before damage counts: it names the member
        return chunk
    except _BAD_STREAM as error:
        out.flush()
        member = last_of_tar(Path(out.name))
        got = f"{error or type(error).__name__}, after {out.tell():,} decompressed bytes"
        raise damaged(path, member, expected="a whole compressed file", got=got) from error
