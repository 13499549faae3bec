"""Names of files in folders and archives: which are refused, which are junk, which cannot stand side by side. Standard library only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from histozoo.errors import UsageError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})


def clean(name: str, where: object) -> str:
    """Returns a member's name as a relative path with `/`: without `./`, doubled or trailing slashes; "" for the top folder itself.

    Raises:
        UsageError: `HZ-U72`, the name is absolute, climbs with `..`, has a backslash, control character or drive letter, or is not UTF-8.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if reason := _reason(name, parts):
        raise unsafe("a name could lead out of its folder, or is none", where, got=f"{name!r}: {reason}")
    return "/".join(parts)


def _reason(name: str, parts: list[str]) -> str:
    if name.startswith("/"):
        return "it is absolute"
    if ".." in parts:
        return "it climbs out"
    if "\\" in name:
        return "it has a backslash"
    if _CONTROL.search(name):
        return "it has a control character"
    if _DRIVE.match(name):
        return "it begins with a drive letter"
    if not name.isascii() and _lone_surrogate(name):
        return "it is not UTF-8"
    return ""


def _lone_surrogate(name: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in name)


def is_junk(name: str) -> bool:
    """Whether a clean name is hidden or was left by a file manager: `.DS_Store`, `._x.tif`, `__MACOSX/x`, `Thumbs.db`."""
    return any(part[0] in ".~" or part.lower() in _JUNK for part in name.split("/"))


def check_distinct(names: Iterable[str], where: object) -> None:
    """Refuses names that cannot stand side by side on every disk.

    Raises:
        UsageError: `HZ-U72`, two names differ only in case or unicode form, or a file has the name of a folder.
    """
    first: dict[str, str] = {}
    folders: set[str] = set()
    for name in names:
        if (folded := _folded(name)) in first:
            other = first[folded]
            raise unsafe(
                "two files have one name, or names that differ only in case or unicode form",
                where,
                got=f"{other!r} and {name!r}",
            )
        first[folded] = name
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    if both := sorted(folders & set(first.values())):
        raise unsafe("a file has the name of a folder", where, got=repr(both[0]))


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


def unsafe(what: str, where: object, *, got: object) -> UsageError:
    """Returns the error for a source that could put files where they do not belong, `HZ-U72`."""
    return UsageError(
        "HZ-U72",
        what,
        where=where,
        expected="relative names below one folder, each there once",
        got=got,
        kept="nothing was extracted",
        next_step="get the archive from its authors again; pack it again if you made it yourself",
    )
