"""The lines of a table of labelled tiles, and what is checked about them before a tile is opened. Standard library only."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from histozoo.errors import UsageError
from histozoo.tile_lists import TILE_SUFFIXES

Cells = dict[str, str]
FRAGMENT = "#xywh="
"""Starts a W3C media fragment: which part of an image a tile is; no file name may hold it."""


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, the tile it names, its label, its group, and all cells as text."""

    line: int
    file: str
    label: str
    group: str
    cells: Cells


def read_rows(path: Path, group: str | Callable[[Cells], str] = "group") -> list[Row]:
    """Returns the lines of a table, all cells as text; `file` and `label` must be filled, and `group` must say something.

    Raises:
        UsageError: `HZ-U32`, with the line.
    """
    header, *records = _records(path)
    columns = header[1]
    needed = ["file", "label", *([group] if isinstance(group, str) else [])]
    absent = [c for c in needed if c not in columns]
    if absent or len(set(columns)) < len(columns):
        raise malformed(
            "a column is missing or there twice",
            path,
            expected=", ".join(needed),
            got=", ".join(columns) or "no header",
        )
    rows = []
    for line, values in records:
        where = f"{path}, line {line}"
        if len(values) != len(columns):
            raise malformed(
                "a line has another number of cells than the header",
                where,
                expected=len(columns),
                got=len(values),
            )
        cells = dict(zip(columns, values, strict=True))
        row = Row(
            line,
            cells["file"],
            cells["label"],
            cells[group] if isinstance(group, str) else group(cells),
            cells,
        )
        if not (row.file and row.label and row.group):
            blank = "file" if not row.file else "label" if not row.label else "group"
            raise malformed(f"the {blank} is blank", where, expected=f"text that names the {blank}", got="''")
        rows.append(row)
    return rows


def check_classes(where: Path, counts: Counter[str], classes: Sequence[str]) -> None:
    """Refuses a task that has nothing to tell apart.

    Raises:
        UsageError: `HZ-E36`, fewer than two classes or a class without a tile.
    """
    empty = [c for c in classes if not counts[c]]
    if len(classes) >= 2 and not empty:
        return
    raise UsageError(
        "HZ-E36",
        "a class has no tile" if empty else "the task has fewer than two classes",
        where=where,
        expected="two classes or more, each with tiles",
        got=", ".join(f"{c}: {counts[c]}" for c in classes) or "no class",
        next_step="complete the data, or take the class out of the task's class list",
    )


def check_counts(where: Path, found: Counter[str], declared: Mapping[str, int]) -> None:
    """Refuses a set that is not the one declared.

    Raises:
        UsageError: `HZ-E35`, with the classes that differ.
    """
    if different := {c: n for c, n in declared.items() if found[c] != n}:
        raise UsageError(
            "HZ-E35",
            "the data has other counts than its task declares",
            where=where,
            expected=", ".join(f"{c}: {n}" for c, n in different.items()),
            got=", ".join(f"{c}: {found[c]}" for c in different),
            next_step="restore the set as it was declared, or declare the new one as another task",
        )


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """Returns (line number, cells) of header and lines; blank lines are passed over."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise malformed(f"the table cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise malformed("the table is not UTF-8", path, got=str(error)) from error
    first = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=";" if first.count(";") > first.count(",") else ",",
        strict=True,
    )
    try:
        records = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise malformed(
            "the table is not readable as CSV", f"{path}, line {reader.line_num}", got=str(error)
        ) from error
    return records or [(1, [])]


def check_paths(path: Path, rows: Iterable[Row]) -> None:
    """Refuses names that lead out of the folder, by spelling or by link.

    Raises:
        UsageError: `HZ-U33`, with the line.
    """
    folder = path if path.is_dir() else path.parent
    inside = folder.resolve()
    parents: dict[Path, bool] = {}
    for row in rows:
        spelled = PurePosixPath(row.file)
        odd = (
            spelled.is_absolute()
            or ".." in spelled.parts
            or any(c in row.file for c in "\\\0\n\r")
            or FRAGMENT in row.file
        )
        target = folder / row.file
        if not odd and target.parent not in parents:
            parents[target.parent] = target.parent.resolve().is_relative_to(inside)
        linked_out = not odd and target.is_symlink() and not target.resolve().is_relative_to(inside)
        if odd or linked_out or not parents[target.parent]:
            raise UsageError(
                "HZ-U33",
                "a tile's name leads out of its folder",
                where=f"{path}, line {row.line}",
                expected="a relative path below the table's folder",
                got=repr(row.file),
                kept="nothing was opened",
            )


def check_files(path: Path, rows: Sequence[Row]) -> None:
    """Compares the table with the disk, both ways, and with itself.

    Raises:
        UsageError: `HZ-E33`: missing, unlisted, repeated and contradictory tiles, each with its number, the first five and their lines.
    """
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.file, []).append(row)
    repeated = {name: found for name, found in lines.items() if len(found) > 1}
    there = {
        p.relative_to(path.parent).as_posix()
        for folder in {(path.parent / name).parent for name in lines}
        if folder.is_dir()
        for p in folder.iterdir()
        if is_tile(p)
    }
    missing = [name for name in lines if name not in there and not (path.parent / name).is_file()]
    problems = {
        "listed but missing": [f"{name} (line {lines[name][0].line})" for name in missing],
        "there but not listed": sorted(there - set(lines)),
        "listed with conflicting labels": [
            _lines(n, f) for n, f in repeated.items() if len({r.label for r in f}) > 1
        ],
        "listed twice": [_lines(n, f) for n, f in repeated.items() if len({r.label for r in f}) == 1],
    }
    if any(problems.values()):
        raise UsageError(
            "HZ-E33",
            "the table and the folder do not name the same tiles",
            where=path,
            expected="each tile on the disk listed once, each listed tile on the disk",
            got="; ".join(
                _first(f"{len(names):,} {what}", names) for what, names in problems.items() if names
            ),
            kept="nothing was read",
            next_step="restore the files or correct the table",
        )


def check_labels(path: Path, rows: Iterable[Row], known: Sequence[str]) -> None:
    """Refuses labels that are not, letter by letter, among the known ones.

    Raises:
        UsageError: `HZ-E34`, with the nearest class and the first five.
    """
    unknown = [row for row in rows if row.label not in known]
    if unknown:
        label = unknown[0].label
        folded = {k.strip().casefold(): k for k in known}
        near = folded.get(label.strip().casefold()) or next(
            iter(difflib.get_close_matches(label, known, 1, 0.5)), None
        )
        raise UsageError(
            "HZ-E34",
            f"{len(unknown):,} labels are not classes of this task",
            where=path,
            expected=", ".join(known) + (f"; nearest to the first is {near!r}" if near else ""),
            got=_first("", [f"{row.label!r} ({row.file}, line {row.line})" for row in unknown]),
            next_step="correct the labels; they are matched letter by letter",
        )


def is_tile(path: Path) -> bool:
    """Whether a path is an image file that is not hidden."""
    hidden = any(part.startswith(".") for part in path.parts[-2:])
    return path.suffix.lower() in TILE_SUFFIXES and not hidden and path.is_file()


def _lines(name: str, rows: Sequence[Row]) -> str:
    return f"{name} (" + ", ".join(f"line {row.line}: {row.label}" for row in rows) + ")"


def _first(what: str, names: Sequence[str], n: int = 5) -> str:
    more = f" and {len(names) - n:,} more" if len(names) > n else ""
    return (f"{what}: " if what else "") + ", ".join(names[:n]) + more


def malformed(what: str, where: object, *, expected: object = "", got: object = "") -> UsageError:
    """Returns the error for a table that is not one, `HZ-U32`."""
    step = "write a CSV in UTF-8 with the columns file, label, group"
    return UsageError(
        "HZ-U32", what, where=where, expected=expected, got=got, kept="nothing was read", next_step=step
    )
