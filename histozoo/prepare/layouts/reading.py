"""What the readers of several datasets share: tables, spreadsheets, class words and the partner of a picture.

Everything that is not as published is refused with `HZ-U73`, naming the file.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

Row = dict[str, str]
"""Cells of one row by their column, all stripped of blanks."""

MAX_SHEET_BYTES = 1 << 28
"""Most bytes that one part of a spreadsheet may unpack to."""

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    ElementTree.ParseError,
    EOFError,
    KeyError,
    IndexError,
    RuntimeError,  # encrypted, or packed in a way that Python does not know
    ValueError,
)
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def table(source: Source, name: str, columns: Collection[str]) -> list[Row]:
    """Reads a CSV file with a header line.

    Args:
        source: Where the file lies.
        name: The file's member name.
        columns: Columns that must be there and have no blank cell; others are kept too.

    Raises:
        UsageError: `HZ-U73`, as `annotations.table` says, or a cell is blank.
    """
    from histozoo.prepare import annotations

    lines = annotations.table(source, name, needed=columns)
    return [_filled(line.cells, columns, f"{name}, line {line.number}") for line in lines]


def sheet(source: Source, name: str, columns: Collection[str], *, title: str = "") -> list[Row]:
    """Reads one sheet of an Excel workbook (.xlsx), which is a zip of XML files; numbers stay text, whole ones without a point.

    Args:
        source: Where the file lies.
        name: The file's member name.
        columns: Columns that must be there; others are kept too.
        title: Name of the sheet; the first one where it is "".

    Raises:
        UsageError: `HZ-U73`, the file is no workbook, has no such sheet, or lacks a column or a cell.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source.read(name))) as book:
            strings = _strings(book)
            root = _part(book, _sheet_part(book, title))
            lines = [_cells(row, strings) for row in root.iter(f"{_MAIN}row")]
    except _DAMAGED as error:
        got = f"{type(error).__name__}: {error}"
        wanted = f"an Excel workbook with the sheet {title!r}" if title else "an Excel workbook"
        raise malformed("the workbook cannot be read", name, expected=wanted, got=got) from error
    return _rows([line for line in lines if any(line)], name, columns)


def keyed(rows: Iterable[Row], key: Callable[[Row], str], where: str) -> dict[str, Row]:
    """Returns the rows of a table by the picture that each is about.

    Raises:
        UsageError: `HZ-U73`, two rows are about one picture.
    """
    found: dict[str, Row] = {}
    for row in rows:
        name = key(row)
        if name in found:
            raise malformed("a picture is in the table twice", where, expected="one row for each", got=name)
        found[name] = row
    return found


def known(word: str, words: Collection[str], where: str) -> str:
    """Returns `word`, one of `words`.

    Raises:
        UsageError: `HZ-U73`, an unknown class.
    """
    if word not in words:
        raise malformed(
            "a class is not one of those published", where, expected=", ".join(words), got=repr(word)
        )
    return word


def translated(word: str, words: Mapping[str, str], where: str) -> str:
    """Returns our word for the authors' word.

    Raises:
        UsageError: `HZ-U73`, an unknown class.
    """
    return words[known(word, words, where)]


def partner(names: Collection[str], name: str, of: str) -> str:
    """Returns `name`, the file that belongs to the picture `of`.

    Raises:
        UsageError: `HZ-U73`, there is no such file.
    """
    if name not in names:
        raise malformed("a picture's annotation is missing", of, expected=name, got="no such file")
    return name


def some(pictures: list[str], expected: str, where: object) -> list[str]:
    """Returns `pictures`, which are not none.

    Raises:
        UsageError: `HZ-U73`, there are none.
    """
    if not pictures:
        raise malformed("no picture of the dataset is there", str(where), expected=expected, got="none")
    return pictures


def beside(name: str, *parts: str, suffix: str = "") -> str:
    """Returns the member of the same stem in another folder: `parts` replace as many folders, counted from the file upwards.

    Args:
        name: Member name of the picture.
        parts: New names of its last folders.
        suffix: New suffix with its point; the picture's own where it is "".
    """
    path = PurePosixPath(name)
    folder = path.parents[len(parts)]
    return str(folder.joinpath(*parts, path.stem + (suffix or path.suffix)))


def _rows(lines: list[list[str]], name: str, columns: Collection[str]) -> list[Row]:
    header = [cell.strip() for cell in lines[0]] if lines else []
    missing = [column for column in columns if column not in header]
    if missing:
        raise malformed("the sheet lacks a column", name, expected=", ".join(missing), got=", ".join(header))
    rows = []
    for number, line in enumerate(lines[1:], 2):
        cells = line + [""] * (len(header) - len(line))  # blank cells at the end of a row are not stored
        row = {column: cell.strip() for column, cell in zip(header, cells, strict=False) if column}
        rows.append(_filled(row, columns, f"{name}, row {number}"))
    return rows


def _filled(row: Row, columns: Collection[str], where: str) -> Row:
    blank = [column for column in columns if not row[column]]
    if blank:
        raise malformed("a cell is blank", where, expected=", ".join(blank), got="blank")
    return row


def _part(book: zipfile.ZipFile, part: str) -> ElementTree.Element:
    """Parses one XML file of the workbook; without DOCTYPE there are no entities to expand."""
    if book.getinfo(part).file_size > MAX_SHEET_BYTES:
        raise ValueError(f"{part} unpacks to more than {MAX_SHEET_BYTES:,} bytes")
    data = book.read(part)
    if b"<!DOCTYPE" in data.replace(b"\0", b""):  # also where it is written as UTF-16
        raise ValueError(f"{part} declares a document type")
    return ElementTree.fromstring(data)


def _sheet_part(book: zipfile.ZipFile, title: str) -> str:
    sheets = {one.get("name", ""): one for one in _part(book, "xl/workbook.xml").iter(f"{_MAIN}sheet")}
    if not sheets or (title and title not in sheets):
        raise ValueError(f"its sheets are {list(sheets)}")
    identity = (sheets[title] if title else next(iter(sheets.values()))).get(_RELATION)
    relations = _part(book, "xl/_rels/workbook.xml.rels")
    target = next((r.get("Target", "") for r in relations if r.get("Id") == identity), "")
    return target.lstrip("/") if target.startswith("/xl/") else f"xl/{target}"


def _strings(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    return [_text(item) for item in _part(book, "xl/sharedStrings.xml").iter(f"{_MAIN}si")]


def _text(item: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in item.iter(f"{_MAIN}t"))


def _cells(row: ElementTree.Element, strings: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.iter(f"{_MAIN}c"):
        column = _column(cell.get("r", ""), len(cells))
        cells += [""] * (column - len(cells))
        cells.append(_value(cell, strings))
    return cells


def _column(reference: str, otherwise: int) -> int:
    """Returns the column of a reference such as `AB12`, from 0; blank cells are not stored, so a place may be skipped."""
    letters = reference.rstrip("0123456789")
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1 if letters else otherwise


def _value(cell: ElementTree.Element, strings: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(f"{_MAIN}v") or ""
    if cell.get("t") == "s":
        return strings[int(value)]
    return value[:-2] if value.endswith(".0") else value
