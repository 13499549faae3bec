"""Which tiles a folder or a table names: sorted, relative, each once. Standard library only."""

from __future__ import annotations

import csv
from pathlib import Path

from histozoo.errors import UsageError

TILE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})


def list_tiles(source: Path) -> tuple[Path, list[str], list[str]]:
    """Returns the folder that names are relative to, the sorted names of the tiles, and the names of files passed over.

    Raises:
        UsageError: `HZ-U62`, no such source, no tile in it, no column `file`, or a file listed twice.
    """
    if source.is_dir():
        files = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
        names = [name for name in files if Path(name).suffix.lower() in TILE_SUFFIXES]
        root, ignored = source, sorted(set(files) - set(names))
    elif source.is_file():
        root, names, ignored = source.parent, sorted(_table_names(source)), []
    else:
        raise _source_error("there is no such folder or table", source)
    if not names:
        raise _source_error(
            "no tile to embed", source, expected=f"files ending in {', '.join(sorted(TILE_SUFFIXES))}"
        )
    return root, names, ignored


def _table_names(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if "file" not in (reader.fieldnames or ()):
                raise _source_error(
                    "the table has no column 'file'",
                    path,
                    got=", ".join(reader.fieldnames or ()) or "no header",
                )
            names = [row["file"] or "" for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _source_error(f"the table is not readable as CSV: {error}", path) from error
    seen: set[str] = set()
    for row, name in enumerate(names, start=2):
        if not name or name in seen:
            raise _source_error(
                "an empty or repeated file name in the table", f"{path}, line {row}", got=repr(name)
            )
        seen.add(name)
    return names


def _source_error(what: str, where: object, *, expected: str = "", got: str = "") -> UsageError:
    step = "give a folder of images or a CSV with a column 'file'"
    return UsageError(
        "HZ-U62", what, where=where, expected=expected, got=got, kept="nothing was written", next_step=step
    )
