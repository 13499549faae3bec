"""What people marked, as files hold it: tables, points, MATLAB and JSON files; with them the readers of `masks` and `xml_outlines`.

Each refuses with `HZ-U73` what is not as it should be, and names the file and the line or element; nothing is repaired or left out.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histozoo import strict_json
from histozoo.errors import HistozooError
from histozoo.prepare.masks import mask_image
from histozoo.prepare.optional import hdf5, scipy_io
from histozoo.prepare.pictures import Size, Thing
from histozoo.prepare.sources import malformed
from histozoo.prepare.xml_outlines import Outline, asap_xml, imagescope_xml

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

__all__ = [
    "Line",
    "Outline",
    "asap_xml",
    "imagescope_xml",
    "json_file",
    "mask_image",
    "mat",
    "points_csv",
    "table",
]


class Line(NamedTuple):
    """One line of a table: its number in the file, from 1, and its cells by column, without blanks around them."""

    number: int
    cells: dict[str, str]


def table(
    source: Source,
    name: str,
    *,
    needed: Collection[str] = (),
    columns: Sequence[str] = (),
    separator: str = "",
) -> list[Line]:
    """Reads a CSV file; blank lines are passed over.

    Args:
        source: Where the file lies.
        name: Its member name.
        needed: Columns that must be there.
        columns: Names of the columns of a file that has no header line.
        separator: What separates cells; where it is "", the one of `,`, `;` and tab that is most often in the first line.

    Raises:
        UsageError: `HZ-U73`, not UTF-8, not CSV, a column missing or there twice, or a line with another number of cells.
    """
    try:
        text = source.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise malformed("the table is not UTF-8", name, expected="UTF-8", got=str(error)) from error
    first = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator or max(",;\t", key=first.count), strict=True
    )
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except csv.Error as error:
        raise malformed(
            "the table cannot be read", f"{name}, line {reader.line_num}", expected="CSV", got=str(error)
        ) from error
    header = list(columns)
    if not header and lines:
        header = lines.pop(0)[1]
    if (absent := [column for column in needed if column not in header]) or len(set(header)) < len(header):
        got = ", ".join(header) or "an empty file"
        raise malformed(
            "a column is missing or there twice", name, expected=", ".join(absent or needed), got=got
        )
    return [_line(name, number, header, cells) for number, cells in lines]


def _line(name: str, number: int, header: list[str], cells: list[str]) -> Line:
    if len(cells) != len(header):
        where, expected = f"{name}, line {number}", f"{len(header)}: {', '.join(header)}"
        raise malformed("a line has another number of cells", where, expected=expected, got=len(cells))
    return Line(number, dict(zip(header, cells, strict=True)))


def points_csv(
    source: Source,
    name: str,
    *,
    kind: str = "",
    kind_column: str = "",
    kinds: Mapping[str, str] | None = None,
    x: str = "x",
    y: str = "y",
    columns: Sequence[str] = (),
    origin: int = 0,
    size: Size | None = None,
    separator: str = "",
) -> tuple[Thing, ...]:
    """Reads a table of points, one per line; an empty file without header has none.

    Args:
        source: Where the file lies.
        name: Its member name.
        kind: What every point is; or
        kind_column: the column that says it, and
        kinds: our word for each word in that column; where it is not given, the column's own words are kept.
        x: Column of the distance from the left edge in pixels.
        y: Column of the distance from the upper edge in pixels.
        columns: Names of the columns of a file that has no header line.
        origin: What the file calls the first pixel: 1 in files from MATLAB, else 0.
        size: Width and height of the picture; where given, no point may lie outside.
        separator: What separates cells, as for `table`.

    Raises:
        UsageError: `HZ-U73`, as `table` says; a coordinate is no finite number or lies outside; a word that `kinds` does not have.
    """
    needed = [x, y, *([kind_column] if kind_column else [])]
    lines = table(source, name, needed=needed, columns=columns, separator=separator)
    things = []
    for number, cells in lines:
        where = f"{name}, line {number}"
        at = (_number(cells[x], where) - origin, _number(cells[y], where) - origin)
        if size is not None and not (0 <= at[0] < size[0] and 0 <= at[1] < size[1]):
            expected, got = f"x below {size[0]} and y below {size[1]}", f"x {at[0]:g}, y {at[1]:g}"
            raise malformed("a point lies outside its picture", where, expected=expected, got=got)
        word = cells[kind_column] if kind_column else kind
        if kind_column and kinds is not None:
            if word not in kinds:
                raise malformed("an unknown kind", where, expected=", ".join(kinds), got=repr(word))
            word = kinds[word]
        things.append(Thing(*at, word))
    return tuple(things)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise malformed("a coordinate is no finite number", where, expected="a number", got=repr(text))
    return value


def mat(source: Source, name: str, *, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Reads arrays of a MATLAB file, as MATLAB has them: 7.3 files, which are HDF5, are turned to the same axes.

    Args:
        source: Where the file lies.
        name: Its member name.
        keys: Names of the arrays that must be there.

    Raises:
        UsageError: `HZ-U73`, truncated, no MATLAB file, or without such an array; `HZ-U76`, scipy or h5py is not installed.
    """
    data, wanted = source.read(name), list(keys)
    try:
        found = (
            _mat7(source, name) if b"MATLAB 7.3" in data[:512] else scipy_io(name).loadmat(io.BytesIO(data))
        )
    except HistozooError:
        raise
    except Exception as error:  # scipy's reader lets through whatever a damaged file leads to
        got = f"{len(data):,} bytes: {error or type(error).__name__}"
        raise malformed(
            "the MATLAB file cannot be read", name, expected="a whole .mat file", got=got
        ) from error
    there = [key for key in found if not key.startswith("__")]
    if absent := [key for key in wanted if key not in there]:
        got = ", ".join(there) or "none"
        raise malformed("an array is missing", name, expected=", ".join(absent), got=got)
    return {key: np.asarray(found[key]) for key in wanted}


def _mat7(source: Source, name: str) -> dict[str, Any]:
    with hdf5(source.path(name)) as file:
        return {key: np.asarray(file[key]).T for key in file if hasattr(file[key], "shape")}


def json_file(source: Source, name: str, *, needed: Collection[str] = ()) -> Any:
    """Reads a JSON file strictly: UTF-8, each key once, finite numbers.

    Args:
        source: Where the file lies.
        name: Its member name.
        needed: Keys that its object must have.

    Raises:
        UsageError: `HZ-U73`, not JSON, with its line and column; or without a key.
    """
    data = source.read(name).removeprefix(b"\xef\xbb\xbf")
    try:
        value = strict_json.loads(data)
    except ValueError as error:
        raise malformed("the JSON file cannot be read", name, expected="JSON", got=str(error)) from error
    there = list(value) if isinstance(value, dict) else []
    if absent := [key for key in needed if key not in there]:
        got = ", ".join(map(str, there[:20])) or type(value).__name__
        raise malformed("a key is missing", name, expected=", ".join(absent), got=got)
    return value
