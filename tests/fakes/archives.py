"""Archives, good and bad: what downloads, other systems and ill will do to them. The same bytes on every run."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

GOOD: Mapping[str, bytes] = {
    "set/train/a.txt": b"first",
    "set/train/b.txt": b"second" * 5_000,
    "set/test/Größe \u6761 #1.txt": b"third",
    "set/empty.txt": b"",
}
"""What every good archive holds."""

JUNK: Mapping[str, bytes] = {
    "set/.DS_Store": b"x",
    "__MACOSX/set/train/._a.txt": b"x",
    "set/train/Thumbs.db": b"x",
    "set/.ipynb_checkpoints/a.txt": b"x",
}
"""What file managers leave, in good archives too."""

_DATE = (2020, 1, 1, 0, 0, 0)


def zip_bytes(members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], *, packed: bool = True) -> bytes:
    """A zip; names may be there twice."""
    data = io.BytesIO()
    pairs = members.items() if isinstance(members, Mapping) else members
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in pairs:
            info = zipfile.ZipInfo(name, _DATE)
            info.filename = name  # ZipInfo itself cuts at NUL
            info.compress_type = archive.compression
            archive.NameToInfo.pop(name, None)  # or it warns of the second one
            archive.writestr(info, content)
    return data.getvalue()


def zip_link(name: str, target: str) -> bytes:
    """A zip with one file and one symbolic link, as Info-ZIP writes it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.txt", _DATE), b"first")
        info = zipfile.ZipInfo(name, _DATE)
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, target)
    return data.getvalue()


def tar_bytes(
    members: Mapping[str, bytes] | Iterable[tuple[str, bytes]],
    mode: str = "w",
    *,
    special: Iterable[tarfile.TarInfo] = (),
    format: int = tarfile.PAX_FORMAT,
) -> bytes:
    """A tar (`w`), tar.gz (`w:gz`), tar.bz2 or tar.xz, with links and devices behind the files."""
    data = io.BytesIO()
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(fileobj=data, mode=mode, format=format) as archive:  # type: ignore[call-overload]
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in special:
            archive.addfile(info)
    return data.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A link, a folder or a device of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def patched_zip(
    data: bytes, *, at: int, directory: int, local: int | None, value: int, kind: str = "<H"
) -> bytes:
    """A zip with one field of member number `at` changed, in its directory and, where `local` is given, before its data."""
    found = bytearray(data)
    places = [i for i in range(len(data)) if data[i : i + 4] == b"PK\1\2"]
    struct.pack_into(kind, found, places[at] + directory, value)
    if local is not None:
        header = struct.unpack_from("<I", data, places[at] + 42)[0]
        struct.pack_into(kind, found, header + local, value)
    return bytes(found)


def encrypted_zip() -> bytes:
    """A zip whose second member says that it needs a password."""
    return patched_zip(zip_bytes(GOOD), at=1, directory=8, local=6, value=1)


def deflate64_zip() -> bytes:
    """A zip whose second member is compressed in a way that few programs read."""
    return patched_zip(zip_bytes(GOOD), at=1, directory=10, local=8, value=9)


def flipped(data: bytes, near: bytes, offset: int = 0) -> bytes:
    """The same bytes with one bit changed, `offset` bytes behind the first `near`."""
    at = data.index(near) + offset
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def overlapping_zip() -> bytes:
    """Two names for the same bytes: a small archive can name them a million times."""
    data = zip_bytes([("a.txt", b"first" * 100), ("b.txt", b"first" * 100)])
    return patched_zip(data, at=1, directory=42, local=None, value=0, kind="<I")


def lying_zip() -> bytes:
    """A member that declares 10 bytes and unpacks to 300,000."""
    data = zip_bytes({"set/train/liar.txt": bytes(300_000)})
    return patched_zip(data, at=0, directory=24, local=22, value=10, kind="<I")


def bomb_zip(ratio: int, size: int) -> bytes:
    """An archive that declares `ratio` members of `size` bytes and holds next to nothing."""
    data = zip_bytes({f"{i}.txt": bytes(2_000) for i in range(ratio)})
    for i in range(ratio):
        data = patched_zip(data, at=i, directory=24, local=22, value=size, kind="<I")
    return data


@dataclass(frozen=True)
class Bad:
    """A bad archive: what it is, its file name and bytes, the code of the error, and a word of the message that tells it apart."""

    what: str
    name: str
    data: bytes
    code: str
    says: str
    member: str = ""

    def __str__(self) -> str:
        return self.what


def bad_archives() -> list[Bad]:
    """Archives that must be refused when they are opened."""
    return [*_damaged(), *_unsafe(), *_bombs()]


def _damaged() -> list[Bad]:
    whole_zip, whole_tar, whole_gz = zip_bytes(GOOD), tar_bytes(GOOD), tar_bytes(GOOD, "w:gz")
    second = whole_tar.index(b"set/train/b.txt")
    header = whole_tar[:second] + b"\xff" * 512 + whole_tar[second + 512 :]
    return [
        Bad("a truncated zip", "x.zip", whole_zip[:-30], "HZ-U74", "without a whole directory"),
        Bad("half a zip", "x.zip", whole_zip[: len(whole_zip) // 2], "HZ-U74", "without a whole directory"),
        Bad(
            "a tar cut in a member", "x.tar", whole_tar[:9_000], "HZ-U74", "unexpected end", "set/train/b.txt"
        ),
        Bad("a tar cut between members", "x.tar", whole_tar[:second], "HZ-U74", "no end marker"),
        Bad("a tar with a damaged header", "x.tar", header, "HZ-U74", "a damaged header at byte"),
        Bad("a truncated tar.gz", "x.tar.gz", whole_gz[: len(whole_gz) // 2], "HZ-U74", "ended before"),
        Bad("a tar.gz without its end", "x.tgz", whole_gz[:-4], "HZ-U74", "ended before", "set/empty.txt"),
        Bad("a tar.gz with a changed bit", "x.tar.gz", _middle(whole_gz, -8), "HZ-U74", "after"),
        Bad("a tar.xz with a changed bit", "x.tar.xz", _middle(tar_bytes(GOOD, "w:xz")), "HZ-U74", "after"),
        Bad(
            "a tar.bz2 with a changed bit", "x.tar.bz2", _middle(tar_bytes(GOOD, "w:bz2")), "HZ-U74", "after"
        ),
        Bad("an encrypted zip", "x.zip", encrypted_zip(), "HZ-U74", "encrypted", "set/train/b.txt"),
        Bad("an unreadable method", "x.zip", deflate64_zip(), "HZ-U74", "Deflate64", "set/train/b.txt"),
        Bad("a web page", "x.zip", b"\n<!DOCTYPE html><html>Log in</html>", "HZ-U74", "a web page"),
        Bad(
            "a Git-LFS pointer", "x.tar", b"version https://git-lfs.github.com/spec/v1\n", "HZ-U74", "Git-LFS"
        ),
        Bad("a RAR archive", "x.zip", b"Rar!\x1a\x07\x01\x00" + bytes(600), "HZ-U74", "RAR"),
        Bad("an empty file", "x.zip", b"", "HZ-U74", "an empty file"),
        Bad("text named .tar.gz", "x.tar.gz", b"not found", "HZ-U74", "begins with b'not found'"),
        Bad("a zip of nothing", "x.zip", zip_bytes({}), "HZ-U74", "none"),
        Bad("a tar of nothing", "x.tar", tar_bytes({}), "HZ-U74", "none"),
        Bad("a tar.gz of nothing", "x.tar.gz", tar_bytes({}, "w:gz"), "HZ-U74", "none"),
        Bad("a zip of junk", "x.zip", zip_bytes(JUNK), "HZ-U74", "none"),
        Bad(
            "an empty archive inside",
            "x.zip",
            zip_bytes({"a/in.zip": zip_bytes({})}),
            "HZ-U74",
            "none",
            "a/in.zip",
        ),
        Bad(
            "a truncated archive inside",
            "x.zip",
            zip_bytes({"in.zip": whole_zip[:-30], "a": b"1"}),
            "HZ-U74",
            "directory",
            "in.zip",
        ),
    ]


def _middle(data: bytes, at: int = 0) -> bytes:
    """The same bytes with one bit changed; 8 bytes before the end of a gzip file lies its checksum."""
    at = at % len(data) or len(data) // 2
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def _unsafe() -> list[Bad]:
    names = {
        "a name that climbs": "set/../../outside.txt",
        "an absolute name": "/tmp/outside.txt",
        "a drive letter": "C:/outside.txt",
        "a Windows path": "C:\\outside.txt",
        "a backslash": "set\\..\\outside.txt",
        "a line break": "set/a\nb.txt",
    }
    good = tuple(GOOD.items())
    makers: dict[str, Callable[[Iterable[tuple[str, bytes]]], bytes]] = {
        "zip": zip_bytes,
        "tar": tar_bytes,
        "tar.gz": lambda members: tar_bytes(members, "w:gz"),
    }
    pairs = {
        "a name twice": ("set/train/a.txt", "'set/train/a.txt' and 'set/train/a.txt'"),
        "names that differ in case": ("SET/Train/A.txt", "SET/Train/A.txt"),
        "names that differ in unicode form": ("set/test/Gro\u0308ße \u6761 #1.txt", "Gro"),
        "a file with the name of a folder": ("set/train", "'set/train'"),
    }
    nul = flipped(zip_bytes({"set/a\1b.txt": b"1"}), b"set/a\1", 5)
    nul = nul.replace(b"set/a\1b.txt", b"set/a\0b.txt")
    found = [
        Bad(f"{what} in a {kind}", f"x.{kind}", make([*good, (name, b"evil")]), "HZ-U72", repr(name))
        for kind, make in makers.items()
        for what, name in names.items()
    ]
    found += [
        Bad(f"{what} in a {kind}", f"x.{kind}", make([*good, (name, b"evil")]), "HZ-U72", says)
        for kind, make in makers.items()
        for what, (name, says) in pairs.items()
    ]
    found += [Bad("NUL in a name", "x.zip", nul, "HZ-U72", "a control character")]
    found += [
        Bad(f"a link in a zip to {target}", "x.zip", zip_link("set/link", target), "HZ-U72", repr(target))
        for target in ("../../outside.txt", "/etc/passwd", "..\\outside.txt")
    ]
    specials = {
        "a link that climbs": entry("set/link", tarfile.SYMTYPE, "../../outside.txt"),
        "an absolute link": entry("set/link", tarfile.SYMTYPE, "/etc/passwd"),
        "a hard link that climbs": entry("set/link", tarfile.LNKTYPE, "../outside.txt"),
        "an absolute hard link": entry("set/link", tarfile.LNKTYPE, "/etc/passwd"),
        "a device": entry("set/link", tarfile.CHRTYPE),
        "a block device": entry("set/link", tarfile.BLKTYPE),
        "a named pipe": entry("set/link", tarfile.FIFOTYPE),
    }
    found += [
        Bad(f"{what} in a {kind}", f"x.{kind}", tar_bytes(good, mode, special=[info]), "HZ-U72", "'set/link'")
        for kind, mode in (("tar", "w"), ("tar.gz", "w:gz"))
        for what, info in specials.items()
    ]
    latin = tar_bytes(good, special=[], format=tarfile.GNU_FORMAT)
    latin = _renamed_tar(latin, "set/train/a.txt", b"set/train/\xe4.txt\0")
    return [*found, Bad("a name that is not UTF-8", "x.tar", latin, "HZ-U72", "it is not UTF-8")]


def _renamed_tar(data: bytes, old: str, new: bytes) -> bytes:
    """A tar with one header's name replaced and its checksum set right."""
    at = data.index(old.encode())
    header = bytearray(data[at : at + 512])
    header[:100] = new.ljust(100, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


def _bombs() -> list[Bad]:
    inner = zip_bytes({"a.txt": b"1"})
    for _ in range(5):
        inner = zip_bytes({"a.zip": inner})
    return [
        Bad(
            "a bomb by its directory",
            "x.zip",
            bomb_zip(3, 4_000_000_000),
            "HZ-U75",
            "12,000,000,000",
            "0.txt",
        ),
        Bad("members that overlap", "x.zip", overlapping_zip(), "HZ-U75", "share bytes", "b.txt"),
        Bad("archives without end", "x.zip", inner, "HZ-U75", "deeper", "a.zip"),
    ]


def gzip_of_zeros(size: int) -> bytes:
    """A gzip file of that many zero bytes, about a thousandth of their size, made piece by piece."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 20)
    parts = [packer.compress(piece) for _ in range(size >> 20)]
    return b"".join(parts) + packer.flush()
