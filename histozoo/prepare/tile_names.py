"""Names of tile files: readable, the same on every machine, and different on every file system."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from histozoo.prepare.pictures import Box

_LONGEST = 80
"""Characters of a picture's name that are kept; file systems end at 255 bytes with all that follows."""


def stems(names: Sequence[str]) -> list[str]:
    """Returns a stem for each picture name of a chunk: ASCII, and different even where letter case does not count.

    Args:
        names: Unique picture names, `/` between folders, `member#row` for rows of arrays; the order decides who gets a number.
    """
    used: set[str] = set()
    found = []
    for name in names:
        base = _plain(name)
        stem, n = base, 1
        while stem.casefold() in used:
            n += 1
            stem = f"{base}-{n}"
        used.add(stem.casefold())
        found.append(stem)
    return found


class Namer:
    """Names the tiles of one picture `<stem>_<x>_<y>`, and `-<n>` behind it where boxes have the same corner."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self._seen: Counter[tuple[int, int]] = Counter()

    def next(self, box: Box, suffix: str) -> str:
        """Returns the file name of the next tile; x and y are the box's left upper corner in pixels."""
        corner = box[:2]
        n = self._seen[corner]
        self._seen[corner] += 1
        return f"{self.stem}_{corner[0]}_{corner[1]}{f'-{n}' if n else ''}{suffix}"


def _plain(name: str) -> str:
    member, _, row = name.rpartition("#")
    if not (member and row.isdigit()):
        member, row = name, ""
    stem = PurePosixPath(member).stem
    ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_only).strip(".-_")[:_LONGEST]
    return (plain or "picture") + (f"_{row}" if row else "")
