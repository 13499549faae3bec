"""The lines of a table of labelled tiles, and what is checked about them before a tile is opened. Standard library only."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from histozoo.errors import UsageError
from histozoo.tile_lists import printable

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
    needed = ("file", "label", *([group] if isinstance(group, str) else []))
    rows = []
    for line, cells in read_cells(path, needed=needed):
        named = cells[group] if isinstance(group, str) else group(cells)
        row = Row(line, cells["file"], cells["label"], named, cells)
        if not (row.file and row.label and row.group):
            blank = "file" if not row.file else "label" if not row.label else "group"
            where = f"{path}, line {line}"
            raise malformed(f"the {blank} is blank", where, expected=f"text that names the {blank}", got="''")
        rows.append(row)
    return rows


def read_cells(path: Path, *, needed: Sequence[str]) -> list[tuple[int, Cells]]:
    """Returns (number of the line in the file, its cells as text) for every line of a table that has at least these columns.

    Raises:
        UsageError: `HZ-U32`, with the line.
    """
    header, *records = _records(path, needed)
    columns = header[1]
    if any(c not in columns for c in needed) or len(set(columns)) < len(columns):
        raise malformed(
            "a column is missing or there twice",
            path,
            expected=", ".join(needed),
            got=", ".join(columns) or "no header",
            columns=needed,
        )
    for line, values in records:
        if len(values) != len(columns):
            raise malformed(
                "a line has another number of cells than the header",
                f"{path}, line {line}",
                expected=len(columns),
                got=len(values),
                columns=needed,
            )
    return [(line, dict(zip(columns, values, strict=True))) for line, values in records]


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


def _records(path: Path, needed: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Returns (line number, cells) of header and lines; blank lines are passed over."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise malformed(f"the table cannot be read: {error.strerror}", path, columns=needed) from error
    except UnicodeDecodeError as error:
        raise malformed("the table is not UTF-8", path, got=str(error), columns=needed) from error
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
            "the table is not readable as CSV",
            f"{path}, line {reader.line_num}",
            got=str(error),
            columns=needed,
        ) from error
    return records or [(1, [])]


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
            got=first_five("", [f"{row.label!r} ({row.file}, line {row.line})" for row in unknown]),
            next_step="correct the labels; they are matched letter by letter",
        )


def first_five(what: str, names: Sequence[str], n: int = 5) -> str:
    """Returns the first names after what they are, and how many more there are."""
    more = f" and {len(names) - n:,} more" if len(names) > n else ""
    return (f"{what}: " if what else "") + ", ".join(map(printable, names[:n])) + more


def malformed(
    what: str,
    where: object,
    *,
    expected: object = "",
    got: object = "",
    columns: Sequence[str] = ("file", "label", "group"),
) -> UsageError:
    """Returns the error for a table that is not one, `HZ-U32`; `columns` are those that it must have."""
    step = f"write a CSV in UTF-8 with the columns {', '.join(columns)}"
    return UsageError(
        "HZ-U32", what, where=where, expected=expected, got=got, kept="nothing was read", next_step=step
    )
