"""A table against the disk: names that lead out, tiles that are missing, not listed or not those that were meant. Standard library only."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from histozoo.data.rows import FRAGMENT, Row, first_five
from histozoo.errors import UsageError
from histozoo.tile_lists import HIDDEN, Skipped, is_tile_name, leads_out, printable

_log = logging.getLogger(__name__)

_STEPS = {
    "listed but missing": "; tiles that are only missing are left out, and listed, by `prepare --skip-bad`",
    "there but not listed": "; tiles that are only not listed may be passed over with allow_unlisted (`prepare --allow-unlisted`)",
}


def check_paths(path: Path, rows: Iterable[Row]) -> None:
    """Refuses names that lead out of the folder, by spelling or by link, and names that no table can hold.

    Raises:
        UsageError: `HZ-U33` or, for a name that is not UTF-8, `HZ-D32`, with the line.
    """
    folder = path if path.is_dir() else path.parent
    rows = list(rows)
    check_spelling(path, rows)
    inside = folder.resolve()
    parents: dict[Path, bool] = {}
    for row in rows:
        target = folder / row.file
        if target.parent not in parents:
            parents[target.parent] = target.parent.resolve().is_relative_to(inside)
        if not parents[target.parent] or (target.is_symlink() and leads_out(folder, row.file)):
            raise _leads_out(path, row, link=target.resolve())


def check_spelling(where: object, rows: Iterable[Row]) -> None:
    """Refuses names that are spelled as if they led out of their folder, and names that are not UTF-8; looks at no file.

    Raises:
        UsageError: `HZ-U33`, `HZ-D32`, with the line.
    """
    for row in rows:
        parts = row.file.split("/")
        if (
            row.file.startswith("/")
            or ".." in parts
            or FRAGMENT in row.file
            or set("\\\0\n\r") & set(row.file)
        ):
            raise _leads_out(where, row)
        if printable(row.file) != row.file:
            raise UsageError(
                "HZ-D32",
                "a file's name is not UTF-8, so no table can hold it",
                where=where,
                got=printable(row.file),
                next_step="rename the file",
            )


def _leads_out(where: object, row: Row, link: Path | None = None) -> UsageError:
    step = "name files from the table's own folder, without .. and without a / at the front"
    if link is not None:
        step = "put the files themselves there; or make the whole folder the link, table and tiles together"
    return UsageError(
        "HZ-U33",
        "a link leads out of the table's folder" if link else "a tile's name leads out of its folder",
        where=f"{where}, line {row.line}",
        expected="a relative path below the table's folder",
        got=repr(row.file) + (f", which is {printable(str(link))}" if link else ""),
        kept="nothing was opened",
        next_step=step,
    )


def check_files(path: Path, rows: Sequence[Row], *, allow_unlisted: bool = False) -> None:
    """Compares the table with the disk, both ways, and with itself.

    Raises:
        UsageError: `HZ-E33`, as `check_listing`.
    """
    named = {row.file for row in rows}
    there = {
        p.relative_to(path.parent).as_posix()
        for folder in {(path.parent / name).parent for name in named}
        if folder.is_dir()
        for p in folder.iterdir()
        if is_tile(p)
    }
    there |= {name for name in named - there if (path.parent / name).is_file()}
    check_listing(path, rows, there, allow_unlisted=allow_unlisted)


def check_listing(
    where: object, rows: Sequence[Row], there: set[str], *, allow_unlisted: bool = False
) -> None:
    """Compares a table with the tiles that are there, and with itself; unlisted tiles that are allowed are logged with their number.

    Raises:
        UsageError: `HZ-E33`: missing, unlisted, repeated and contradictory tiles, each with its number, the first five and their lines.
    """
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.file, []).append(row)
    repeated = {name: found for name, found in lines.items() if len(found) > 1}
    unlisted = sorted(there - set(lines))
    if allow_unlisted and unlisted:
        _log.warning(
            "%s: %s",
            where,
            first_five(f"{len(unlisted):,} tiles there are not listed and not used", unlisted),
        )
        unlisted = []
    problems = {
        "listed but missing": [
            f"{name} (line {found[0].line})" for name, found in lines.items() if name not in there
        ],
        "there but not listed": unlisted,
        "listed with conflicting labels": [
            _lines(n, f) for n, f in repeated.items() if len({r.label for r in f}) > 1
        ],
        "listed twice": [_lines(n, f) for n, f in repeated.items() if len({r.label for r in f}) == 1],
    }
    if any(problems.values()):
        raise UsageError(
            "HZ-E33",
            "the table and the folder do not name the same tiles",
            where=where,
            expected="each tile on the disk listed once, each listed tile on the disk",
            got="; ".join(
                first_five(f"{len(names):,} {what}", names) for what, names in problems.items() if names
            ),
            kept="nothing was read",
            next_step="restore the files or correct the table"
            + "".join(_STEPS[w] for w in _STEPS if problems[w]),
        )


def check_hashes(path: Path, rows: Iterable[Row]) -> None:
    """Compares the files with the column `sha256`, for rows that fill it; the only way to see that a JPEG or WebP was changed.

    Raises:
        UsageError: `HZ-D25`, with the number of such tiles and the first five; `HZ-D24`, a file that cannot be read.
    """
    told = [(row, row.cells.get("sha256", "").strip().lower()) for row in rows]
    changed = [row for row, sha256 in told if sha256 and sha256 != _sha256(path.parent / row.file)]
    if changed:
        raise UsageError(
            "HZ-D25",
            f"{len(changed):,} tiles are not those whose hashes the table gives",
            where=path,
            expected="the sha256 of the table",
            got="other bytes: " + first_five("", [f"{row.file} (line {row.line})" for row in changed]),
            kept="nothing was read",
            next_step="restore the files from their origin",
        )


def _sha256(path: Path) -> str:
    from histozoo.data.decoding import read

    return hashlib.sha256(read(path)).hexdigest()


def tell_skipped(where: object, skipped: Skipped) -> None:
    """Logs what a walk through a folder passed over, but for hidden files: a link out of the folder, say, is no tile of it."""
    for kind, names in skipped.items():
        if kind != HIDDEN:
            _log.warning("%s: %s", where, first_five(f"{len(names):,} passed over, {kind}", names))


def is_tile(path: Path) -> bool:
    """Whether a path is an image file that is not hidden."""
    return is_tile_name(path) and path.is_file()


def _lines(name: str, rows: Sequence[Row]) -> str:
    return f"{name} (" + ", ".join(f"line {row.line}: {row.label}" for row in rows) + ")"
