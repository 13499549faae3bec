"""Folders and archives -> where each file lies: every archive is listed and checked before a single byte is unpacked.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from histozoo.errors import HistozooError
from histozoo.prepare import archives
from histozoo.prepare import scratch as scratches
from histozoo.prepare.archives import Member
from histozoo.prepare.member_names import clean, is_junk, unsafe
from histozoo.prepare.source_errors import bomb, malformed, unreadable

MAX_DEPTH = 3
"""How deep archives may lie in archives; a site that hands out everything as one zip makes two."""


class Place(NamedTuple):
    """Where the bytes of a file are: all of `file`, or its member `inner`; `packed` where they are compressed once more."""

    file: Path
    inner: str = ""
    member: Member | None = None
    packed: bool = False

    def path(self, scratch: Path) -> Path:
        """Returns a real file with these bytes, made in `scratch` where there is none."""
        file = self.file
        if self.member is not None:
            file = scratches.extracted(scratch, file, self.inner, self.member)
        return scratches.unpacked(scratch, file, check=False) if self.packed else file


Places = dict[str, Place | None]
"""Where each file is; None where it lies loose in the folder under its name."""


def list_folder(top: Path, scratch: Path, places: Places) -> int:
    """Adds the files of a folder and of the archives in it to `places`; returns how many files were passed over.

    Raises:
        HistozooError: As `sources.open_source` says.
    """
    loose, left_out = _walk(top)
    known = set(loose)
    for name in loose:
        if archives.is_archive(name):
            inside: Places = {}
            passed = mount(Place(top / name), str(top / name), f"{name}/", scratch, 1, inside)
            if _lies_unpacked(top, name, inside, known):
                left_out += 1
            else:
                left_out += passed
                for member, place in inside.items():
                    _add(places, member, place)
        elif not archives.is_packed(name):
            places[name] = None
        elif archives.unpacked_name(name) in known:
            left_out += 1
        else:
            _add(places, archives.unpacked_name(name), Place(top / name, packed=True))
    return left_out


def _walk(top: Path) -> tuple[list[str], int]:
    """Returns the names of all files below a folder, sorted, and the number of what was passed over: junk, links to folders, devices."""
    names, left_out, folders = [], 0, [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(top / folder) as entries:
                found = list(entries)
        except OSError as error:
            raise unreadable(top / folder, error) from error
        for entry in found:
            name = clean(folder + entry.name, top)
            link = entry.is_symlink()
            if is_junk(entry.name):
                left_out += 1
            elif link and not Path(os.path.realpath(entry.path)).is_relative_to(top):
                raise unsafe(
                    "a link leads out of the folder",
                    top,
                    got=f"{name!r} leads to {os.path.realpath(entry.path)!r}",
                )
            elif entry.is_dir(follow_symlinks=False):
                folders.append(f"{name}/")
            elif entry.is_file() or (link and not entry.is_dir()):
                names.append(name)
            else:
                left_out += 1
    return sorted(names), left_out


def _lies_unpacked(top: Path, name: str, inside: Places, known: Collection[str]) -> bool:
    """Whether all that an archive holds also lies beside it or in a folder of its name; mounted too, every picture would be there twice."""
    stem = next(name[: -len(end)] for end in archives.ARCHIVES if name.lower().endswith(end))
    for root in (name.rpartition("/")[0], stem):
        beside = [f"{root}/{member[len(name) + 1 :]}".lstrip("/") for member in inside]
        same = sum(
            other in known and _same_size(top / other, place)
            for other, place in zip(beside, inside.values(), strict=True)
        )
        if same == len(beside):
            return True
        if same > 1:  # one may be a licence that several archives have
            raise malformed(
                "an archive and a part of what it holds lie side by side; which of them counts cannot be guessed",
                top / name,
                expected="the archive alone, or all of it unpacked",
                got=f"{same:,} of its {len(beside):,} files in {top / root}",
            )
    return False


def _same_size(path: Path, place: Place | None) -> bool:
    """Whether a loose file is as long as the member; of one that is compressed once more, the length is not known."""
    return place is None or place.member is None or place.packed or path.stat().st_size == place.member.size


def mount(place: Place, where: str, prefix: str, scratch: Path, depth: int, places: Places) -> int:
    """Adds what an archive holds under `prefix`; returns how many files of it were passed over.

    Raises:
        HistozooError: As `sources.open_source` says; an archive that was extracted in order to look into it is removed again.
    """
    if depth > MAX_DEPTH:
        raise bomb(where, "", expected=f"archives in archives, {MAX_DEPTH} deep", got="deeper")
    file = place.path(scratch)
    try:
        return _mount_file(file, where, prefix, scratch, depth, places)
    except HistozooError:
        if place.member is not None:
            file.unlink(missing_ok=True)
        raise


def _mount_file(file: Path, where: str, prefix: str, scratch: Path, depth: int, places: Places) -> int:
    if archives.is_compressed(file):
        file = scratches.unpacked(scratch, file, check=True)
    members, left_out = scratches.indexed(scratch, file, where)
    for name, member in members.items():
        inner = Place(file, name, member)
        if archives.is_archive(name):
            left_out += mount(inner, f"{where}, {name}", f"{prefix}{name}/", scratch, depth + 1, places)
        elif archives.is_packed(name):
            _add(places, prefix + archives.unpacked_name(name), inner._replace(packed=True))
        else:
            _add(places, prefix + name, inner)
    return left_out


def _add(places: Places, name: str, place: Place | None) -> None:
    if name in places:
        raise unsafe("a file is there twice, as itself and compressed", name, got=repr(name))
    places[name] = place
