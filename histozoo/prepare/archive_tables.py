"""The tables of contents of zip and tar, read strictly: a damaged table is an error, never a shorter list. Standard library only."""

from __future__ import annotations

import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from histozoo.errors import HistozooError
from histozoo.prepare.member_names import clean, unsafe
from histozoo.prepare.source_errors import bomb, damaged, looks_like, opened

CHUNK = 1 << 20
_BLOCK = 512  # of a tar
_LONGEST_LINK = 4096
_METHODS = {9: "Deflate64, as Windows packs large files", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
_BAD_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    struct.error,
    OverflowError,
    EOFError,
    OSError,
)
_BAD_TAR = (tarfile.TarError, ValueError, OverflowError, EOFError, IndexError)


class Member(NamedTuple):
    """Where a file lies in its archive.

    `start` is the offset of its header in a zip and of its first byte in a tar; `stored` and `size` are its bytes as they lie there
    and unpacked; `crc` is -1 in a tar, which has none; `deflated` says whether it is compressed.
    """

    start: int
    stored: int
    size: int
    crc: int = -1
    deflated: bool = False


class Found(NamedTuple):
    """One line of a table of contents: a file, or a link and the clean name it leads to."""

    name: str
    member: Member
    link: str = ""


def read_table(path: Path, where: object) -> list[Found]:
    """Lists files and links of a zip or an uncompressed tar in the archive's order; folders are passed over.

    Raises:
        UsageError: `HZ-U72`, a name or link leads out, or a member is a device.
        IntegrityError: `HZ-U74`, truncated, damaged, encrypted or no archive; `HZ-U75`, members of a zip overlap.
        ResourceError: `HZ-U74`, the file cannot be opened.
    """
    with opened(path) as file:
        head = file.read(_BLOCK)
        if head.startswith((b"PK\3\4", b"PK\5\6")):
            return _zip(path, where, file)
        if _is_tar(head):
            return list(_tar(where, file))
    raise damaged(where, got=looks_like(head))


def chunks(path: Path, name: str, member: Member) -> Iterator[bytes]:
    """Yields the bytes of one member, at most 1 MiB at a time; the last chunk comes after its length and CRC were checked.

    Raises:
        IntegrityError: `HZ-U74`, the member is cut off or not the one that was packed; `HZ-U75`, it unpacks to more than it declares.
        ResourceError: `HZ-U74`, the archive cannot be opened.
    """
    crc, length, held = 0, 0, b""
    with opened(path) as file:
        for chunk in _stream(path, name, member, file):
            length += len(chunk)
            if length > member.size:
                raise bomb(path, name, expected=f"{member.size:,} bytes, as declared", got="more than that")
            crc = zlib.crc32(chunk, crc)
            if held:
                yield held
            held = chunk
    if length != member.size:
        raise damaged(path, name, expected=f"{member.size:,} bytes", got=f"{length:,} bytes")
    if member.crc not in (-1, crc):
        raise damaged(path, name, expected=f"CRC {member.crc:08x}", got=f"CRC {crc:08x}")
    yield held


def _stream(path: Path, name: str, member: Member, file: BinaryIO) -> Iterator[bytes]:
    file.seek(member.start)
    if member.crc >= 0:
        header = file.read(30)
        if len(header) < 30 or not header.startswith(b"PK\3\4"):
            raise damaged(path, name, got="no file where the directory says it lies")
        file.seek(sum(struct.unpack("<HH", header[26:30])), 1)
    left, inflate = member.stored, zlib.decompressobj(-zlib.MAX_WBITS)
    while left > 0 and (data := file.read(min(left, CHUNK))):
        left -= len(data)
        if not member.deflated:
            yield data
            continue
        try:
            while data:
                yield inflate.decompress(data, CHUNK)
                data = inflate.unconsumed_tail
        except zlib.error as error:
            raise damaged(path, name, got=str(error)) from error


# -- zip -------------------------------------------------------------------------------------------------------------------------------


def _zip(path: Path, where: object, file: BinaryIO) -> list[Found]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except _BAD_ZIP as error:
        got = f"{path.stat().st_size:,} bytes without a whole directory at their end ({error})"
        raise damaged(where, got=got) from error
    found = []
    for info in infos:
        name = clean(_name(info), where)
        if not info.is_dir():
            found.append(_zip_line(path, where, name, info))
    end = 0
    for one in sorted(found, key=lambda one: one.member.start):
        if one.member.start < end:
            raise bomb(
                where, one.name, expected="members one after the other", got="members that share bytes"
            )
        end = one.member.start + one.member.stored
    return found


def _zip_line(path: Path, where: object, name: str, info: zipfile.ZipInfo) -> Found:
    mode = info.external_attr >> 16
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    if info.flag_bits & 1:
        raise damaged(where, name, expected="no password", got="an encrypted member")
    if not deflated and info.compress_type != zipfile.ZIP_STORED:
        method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise damaged(where, name, expected="stored or deflated members", got=f"one compressed by {method}")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise unsafe("a member is neither file nor folder", where, got=repr(name))
    member = Member(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated)
    if not stat.S_ISLNK(mode):
        return Found(name, member)
    if member.size > _LONGEST_LINK:
        raise damaged(where, name, expected="a link", got=f"{member.size:,} bytes")
    link = b"".join(chunks(path, name, member)).decode(errors="surrogateescape")
    return Found(name, member, _target(where, name, link, folder=posixpath.dirname(name)))


def _name(info: zipfile.ZipInfo) -> str:
    """Returns the name as it is stored; macOS writes UTF-8 and does not say so, and then it was read as code page 437."""
    name = info.orig_filename
    if info.flag_bits & 0x800 or name.isascii():
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


# -- tar -------------------------------------------------------------------------------------------------------------------------------


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # an archive without a member
        return True
    except tarfile.HeaderError:
        return False
    return True


def _tar(where: object, file: BinaryIO) -> Iterator[Found]:
    file.seek(0)
    last = ""
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep 100 MB for a large set
                last = info.name
                if (found := _tar_line(where, info)) is not None:
                    yield found
            end = archive.offset
    except HistozooError:
        raise
    except _BAD_TAR as error:
        raise damaged(where, last, got=str(error)) from error
    file.seek(end)
    block = file.read(_BLOCK)
    # tarfile takes any block that is no header for the end, and a missing one too.
    if block != bytes(_BLOCK):
        got = f"a damaged header at byte {end:,}" if block else "no end marker: the archive is cut off"
        raise damaged(where, last, got=f"{got}, after this member" if last else got)


def _tar_line(where: object, info: tarfile.TarInfo) -> Found | None:
    name = clean(info.name, where)
    member = Member(info.offset_data, info.size, info.size)
    if info.isdir():
        return None
    if info.issym():
        return Found(name, member, _target(where, name, info.linkname, folder=posixpath.dirname(name)))
    if info.islnk():
        return Found(name, member, _target(where, name, info.linkname, folder=""))
    if not info.isreg() or info.issparse():
        raise unsafe("a member is neither file nor folder", where, got=f"{name!r}, kind {info.type!r}")
    return Found(name, member)


def last_of_tar(path: Path) -> str:
    """Returns the last member whose header is whole in what was decompressed of a tar; "" where it is none."""
    last = ""
    with suppress(HistozooError, ValueError, OSError), path.open("rb") as file:
        for one in _tar(path, file):
            last = one.name
    return last


# -- both ------------------------------------------------------------------------------------------------------------------------------


def _target(where: object, name: str, link: str, *, folder: str) -> str:
    """Returns the clean name that a link leads to."""
    joined = posixpath.normpath(posixpath.join(folder, link))
    if link.startswith("/") or joined == ".." or joined.startswith("../") or "\\" in link or "\0" in link:
        raise unsafe("a link leads out of the archive", where, got=f"{name!r} leads to {link!r}")
    return joined
