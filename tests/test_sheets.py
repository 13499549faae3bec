"""Excel workbooks as annotations: what of them is read, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from histozoo.errors import UsageError
from histozoo.prepare.layouts.reading import sheet
from tests.fakes.datasets.opened import opened
from tests.fakes.datasets.pieces import workbook


def test_a_sheet_is_read_with_blank_cells_not_stored_and_whole_numbers_without_a_point(
    tmp_path: Path,
) -> None:
    rows = [("a", "b", "c"), ("x & y", "", 3), ("z", "2.0", 0.5)]
    workbook(tmp_path / "copy/book.xlsx", {"other": [("d",), (1,)], "wanted": rows})
    source = opened(tmp_path / "copy")
    found = sheet(source, "book.xlsx", ("a", "c"), title="wanted")
    assert found == [{"a": "x & y", "b": "", "c": "3"}, {"a": "z", "b": "2.0", "c": "0.5"}]
    assert sheet(source, "book.xlsx", ("d",)) == [{"d": "1"}]


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", b"PK\x03\x04 cut off"])
def test_what_is_no_workbook_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/book.xlsx").write_bytes(data)
    with pytest.raises(UsageError, match="HZ-U73 the workbook cannot be read"):
        sheet(opened(tmp_path / "copy"), "book.xlsx", ("a",))


def test_a_workbook_that_declares_entities_or_lacks_the_sheet_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "copy/book.xlsx", {"one": [("a",), (1,)]})
    with pytest.raises(UsageError, match="its sheets are"):
        sheet(opened(tmp_path / "copy"), "book.xlsx", ("a",), title="two")
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    bomb = b'<!DOCTYPE a [<!ENTITY b "cc">]>'
    parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"].replace(b"?>\n", b"?>\n" + bomb)
    with zipfile.ZipFile(path, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)
    with pytest.raises(UsageError, match="document type"):
        sheet(opened(tmp_path / "copy"), "book.xlsx", ("a",))


def test_a_missing_column_and_a_blank_cell_are_named(tmp_path: Path) -> None:
    workbook(tmp_path / "copy/book.xlsx", {"one": [("a", "b"), ("x", "y"), ("", "z")]})
    source = opened(tmp_path / "copy")
    with pytest.raises(UsageError, match="HZ-U73 the sheet lacks a column") as caught:
        sheet(source, "book.xlsx", ("a", "c"))
    assert (caught.value.expected, caught.value.got) == ("c", "a, b")
    with pytest.raises(UsageError, match="HZ-U73 a cell is blank") as caught:
        sheet(source, "book.xlsx", ("a",))
    assert caught.value.where == "book.xlsx, row 3"
