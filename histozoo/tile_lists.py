"""Which tiles a folder or a table names: sorted, relative, each once. Standard library only.

Folders are walked by one rule wherever tiles are listed. What is passed over is passed over by kind, and named:

| found | what is done |
|---|---|
| a name that starts with a dot, such as `._a.png` or `.ipynb_checkpoints`; `__MACOSX` | passed over as hidden |
| a link to a folder | never entered: a loop would give each tile for ever, a link inside the folder gives it twice |
| a link to a file out of the folder | passed over, as a table that names it is refused |
| a link that leads nowhere | listed; it is refused where it is read |
| a pipe, a socket, a device | passed over: reading it may never end |
| a folder that may not be read | refused: its tiles would be missing without a word |
"""

from __future__ import annotations

import csv
import os
from pathlib import Path, PurePath
from typing import NamedTuple

from histozoo.errors import UsageError

TILE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
HIDDEN, OUTSIDE, LINKED, LOOP, ODD = (
    "hidden",
    "links out of the folder",
    "links to folders inside",
    "links that lead round in a circle",
    "neither file nor folder",
)
Skipped = dict[str, list[str]]
"""Names passed over, by kind."""


class TileList(NamedTuple):
    """The tiles of one folder or table.

    Args:
        root: Folder that names are relative to.
        names: Tiles, sorted.
        ignored: Files in the folder that are no images by their suffix.
        skipped: What was passed over, by kind; kinds without any are not there.
        sha256: Hash of each tile's file, where the table has such a column.
    """

    root: Path
    names: list[str]
    ignored: list[str]
    skipped: Skipped
    sha256: dict[str, str]


def find_tiles(source: Path) -> TileList:
    """Lists the tiles of a folder and all folders in it, or those a table names in its column `file`; `,` and `;` separate.

    Raises:
        UsageError: `HZ-U62`, no such source, no tile in it, no column `file`, a file listed twice, or a folder that may not be read.
    """
    if source.is_dir():
        files, skipped = walk(source)
        names = [name for name in files if is_tile_name(PurePath(name))]
        found = TileList(source, names, sorted(set(files) - set(names)), skipped, {})
    elif source.is_file():
        hashes = _table(source)
        told = {name: sha256 for name, sha256 in hashes.items() if sha256}
        found = TileList(source.parent, sorted(hashes), [], {}, told)
    else:
        raise _source_error("there is no such folder or table", source)
    if not found.names:
        passed = "; ".join(f"{len(names):,} {kind}" for kind, names in found.skipped.items())
        kinds = ", ".join(sorted(TILE_SUFFIXES))
        raise _source_error(
            "no tile to embed",
            source,
            expected=f"files ending in {kinds}",
            got=f"passed over: {passed}" if passed else "",
        )
    return found


def walk(folder: Path) -> tuple[list[str], Skipped]:
    """Returns the files below a folder, sorted, relative and with `/`, and what was passed over, by the rule above.

    Raises:
        UsageError: `HZ-U62`, a folder that may not be read.
    """
    root, files, skipped = folder.resolve(), [], Skipped()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        for entry in _entries(here):
            name = Path(entry.path).relative_to(folder).as_posix()
            if kind := _kind(entry, root):
                skipped.setdefault(kind, []).append(name)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            else:
                files.append(name)
    return sorted(files), {kind: sorted(names) for kind, names in sorted(skipped.items())}


def is_tile_name(path: PurePath) -> bool:
    """Whether a name is that of an image file that is not hidden."""
    return path.suffix.lower() in TILE_SUFFIXES and not any(p.startswith(".") for p in path.parts[-2:])


def leads_out(root: Path, name: str) -> bool:
    """Whether a name below `root` leads out of it, by spelling or by a link."""
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        return True
    return not (root / name).resolve().is_relative_to(root.resolve())


def printable(name: str) -> str:
    r"""Returns a name as text that any file can hold: bytes that are not UTF-8 become `\udc..`."""
    return name.encode("utf-8", "backslashreplace").decode()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise _source_error(f"a folder cannot be read: {error.strerror}", folder) from error


def _kind(entry: os.DirEntry[str], root: Path) -> str:
    """Returns why an entry is passed over; "" for files and folders, and for links to files inside or to nowhere."""
    if entry.name.startswith(".") or entry.name == "__MACOSX":
        return HIDDEN
    if not entry.is_symlink():
        return "" if entry.is_dir() or entry.is_file() else ODD
    try:
        target = Path(entry.path).resolve(strict=True)
    except FileNotFoundError:
        return ""
    except (OSError, RuntimeError):
        return LOOP
    if not target.is_relative_to(root):
        return OUTSIDE
    if target.is_dir():
        return LOOP if Path(entry.path).parent.resolve().is_relative_to(target) else LINKED
    return "" if target.is_file() else ODD


def _table(path: Path) -> dict[str, str]:
    """Returns each listed file with its hash, "" where the table has no such column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = ";" if first.count(";") > first.count(",") else ","
            reader = csv.DictReader(file, delimiter=separator, strict=True)
            if "file" not in (reader.fieldnames or ()):
                raise _source_error(
                    "the table has no column 'file'",
                    path,
                    got=", ".join(reader.fieldnames or ()) or "no header",
                )
            listed = [(row["file"] or "", row.get("sha256") or "") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _source_error(f"the table is not readable as CSV: {error}", path) from error
    found: dict[str, str] = {}
    for row, (name, sha256) in enumerate(listed, start=2):
        if not name or name in found:
            raise _source_error(
                "an empty or repeated file name in the table", f"{path}, line {row}", got=repr(name)
            )
        found[name] = sha256
    return found


def _source_error(what: str, where: object, *, expected: str = "", got: str = "") -> UsageError:
    step = "give a folder of images or a CSV with a column 'file'"
    return UsageError(
        "HZ-U62", what, where=where, expected=expected, got=got, kept="nothing was written", next_step=step
    )
