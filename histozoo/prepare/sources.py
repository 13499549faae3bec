"""A dataset as its authors published it, in one folder or one archive, as names and bytes; nothing is unpacked that need not be.

    source = open_source("downloads", scratch=Path("scratch"))
    source.matching("Photos/*/*.tif")   ->  ["BACH.zip/ICIAR2018_BACH_Challenge/Photos/Benign/b001.tif", ...]

Archives that lie in the folder are mounted as folders under their own names, archives in archives too; `x.h5.gz` is mounted as `x.h5`.
What lies unpacked beside its archive is taken once, from the folder. Standard library only.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from histozoo.errors import ResourceError, UsageError
from histozoo.prepare import archives
from histozoo.prepare.mounting import Place, list_folder, mount
from histozoo.prepare.source_errors import malformed

_FOREIGN = (".rar", ".7z")

__all__ = ["Source", "malformed", "open_source"]


class Source:
    """The files of a dataset. Made by `open_source`; pickled as two paths and opened again, once per process.

    Args:
        where: Folder or archive.
        scratch: Folder for what has to be unpacked.
        places: Where each file is, by name; None where it lies loose in the folder under that name.
        left_out: Number of files passed over: hidden ones, junk, links to folders, archives that lie unpacked beside themselves.
        lists_faults: Whether a layout lists a picture that is not as published, with its fault, in place of refusing the dataset.
    """

    def __init__(
        self,
        where: Path,
        scratch: Path,
        places: dict[str, Place | None],
        left_out: int,
        *,
        lists_faults: bool = False,
    ) -> None:
        self.where, self.scratch, self.left_out = where, scratch, left_out
        self.lists_faults = lists_faults
        self._places = places
        self._names = tuple(sorted(places))

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return _reopened, (str(self.where), str(self.scratch))

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def names(self) -> tuple[str, ...]:
        """Returns the names of all files, sorted, with `/` between folders."""
        return self._names

    def matching(self, pattern: str) -> list[str]:
        """Returns the names whose last parts match, sorted; none is an answer too.

        Args:
            pattern: Parts with `/` between, each with `*`, `?` and `[...]` as in a shell, upper and lower case told apart. It is held
                against the end of the name, part by part, so folders in front never matter: `train/*.png` matches `a/b/train/1.png`.
        """
        wanted = [re.compile(fnmatch.translate(part)) for part in pattern.split("/")]
        return [name for name in self._names if _ends(name, wanted)]

    def one(self, pattern: str) -> str:
        """Returns the one name whose last parts match the pattern.

        Raises:
            UsageError: `HZ-U73`, none matches, or several do.
        """
        found = self.matching(pattern)
        if len(found) == 1:
            return found[0]
        what = "a file is there several times" if found else "a file of the dataset is missing"
        got = _first(found) if found else f"none of {len(self._names):,} files: {_first(self._tops())}"
        raise malformed(what, self.where, expected=f"one file {pattern}", got=got + self._foreign())

    def size(self, name: str) -> int:
        """Returns the length of a file in bytes, 0 where a link leads nowhere; one that is compressed by itself is unpacked for it.

        Raises:
            UsageError: `HZ-U73`, there is no such file.
        """
        place = self._place(name)
        if place.member is not None and not place.packed:
            return place.member.size
        path = self.path(name)
        return path.stat().st_size if path.exists() else 0

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file, checked against the archive's CRC where it has one.

        Raises:
            UsageError: `HZ-U73`, there is no such file, or the system does not let it be read.
            IntegrityError: `HZ-U74`, `HZ-U75`, the archive is damaged there, which is named.
            ResourceError: `HZ-U74`, the archive cannot be opened; `HZ-F42`, the disk is full.
        """
        place = self._place(name)
        if place.member is not None and not place.packed:
            return b"".join(archives.chunks(place.file, place.inner, place.member))
        try:
            return self.path(name).read_bytes()
        except ResourceError:
            raise
        except OSError as error:
            raise self._unread(name, error) from error

    def path(self, name: str) -> Path:
        """Returns a real file with these bytes, for libraries that want one; what lies in an archive is extracted to scratch, once.

        Raises:
            UsageError: `HZ-U73`, there is no such file.
            IntegrityError: `HZ-U74`, `HZ-U75`, the archive is damaged there; no file is left.
            ResourceError: `HZ-U74`, the archive cannot be opened; `HZ-F42`, the disk is full.
        """
        return self._place(name).path(self.scratch)

    def _place(self, name: str) -> Place:
        try:
            place = self._places[name]
        except KeyError:
            raise self._missing(name) from None
        return Place(self.where / name) if place is None else place

    def _missing(self, name: str) -> UsageError:
        last = name.rpartition("/")[2].lower()
        near = [other for other in self._names if other.rpartition("/")[2].lower() == last]
        got = f"elsewhere: {_first(near)}" if near else f"not among {len(self._names):,} files"
        return malformed(
            "a file of the dataset is missing", self.where, expected=name, got=got + self._foreign()
        )

    def _unread(self, name: str, error: OSError) -> UsageError:
        where, got = f"{self.where}, {name}", error.strerror or error
        return malformed("a file of the dataset cannot be read", where, expected="a readable file", got=got)

    def _tops(self) -> list[str]:
        return list(dict.fromkeys(name.split("/")[0] for name in self._names))

    def _foreign(self) -> str:
        found = [name for name in self._names if name.lower().endswith(_FOREIGN)]
        return f"; not looked into: {_first(found)}" if found else ""


def open_source(where: str | Path, *, scratch: Path, lists_faults: bool = False) -> Source:
    """Lists and checks a folder or archive; a compressed tar is decompressed to `scratch`, everything else stays as it is.

    Args:
        where: A folder, or a zip, tar, tar.gz (bz2, xz) or gz file.
        scratch: Folder for what has to be unpacked; what is there from an earlier call is used again.
        lists_faults: Whether layouts list pictures that are not as published, with their fault, in place of refusing the dataset.

    Raises:
        UsageError: `HZ-U73`, there is no such folder or file; `HZ-U72`, a name or link leads out, or an archive has two names that are one.
        IntegrityError: `HZ-U74`, an archive is truncated, damaged, encrypted, empty or none; `HZ-U75`, a decompression bomb.
        ResourceError: `HZ-U74`, a file cannot be opened; `HZ-F42`, the scratch folder is full.
    """
    where, scratch = Path(where), Path(scratch).absolute()
    places: dict[str, Place | None] = {}
    left_out = 0
    if where.is_dir():
        where = where.resolve()
        left_out = list_folder(where, scratch, places)
    elif where.is_file():
        where = where.absolute()
        if archives.is_packed(where.name):
            places[archives.unpacked_name(where.name)] = Place(where, packed=True)
        else:
            left_out = mount(Place(where), str(where), "", scratch, 1, places)
    else:
        raise malformed("there is no such folder or archive", where, expected="a dataset", got="nothing")
    return Source(where, scratch, places, left_out, lists_faults=lists_faults)


def _ends(name: str, wanted: Sequence[re.Pattern[str]]) -> bool:
    parts = name.rsplit("/", len(wanted))[-len(wanted) :]
    return len(parts) == len(wanted) and all(
        one.match(part) is not None for one, part in zip(wanted, parts, strict=True)
    )


def _first(names: Sequence[str], n: int = 5) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n:,} more" if len(names) > n else "")


@lru_cache(maxsize=4)
def _reopened(where: str, scratch: str) -> Source:
    return open_source(where, scratch=Path(scratch))
