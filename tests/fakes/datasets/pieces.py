"""What the small copies of datasets are made of: drawn pictures, masks of rectangles, tables and Excel workbooks."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.fakes.tiles import draw_tile

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, half open."""

_DRAWN_PX = 32
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def pixels(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """Returns a drawn picture, uint8 (H, W, 3); large ones are a small one enlarged, because drawing takes time."""
    small = draw_tile(np.random.default_rng(seed), _DRAWN_PX, seed)
    times = -(-max(width, height) // _DRAWN_PX)
    return small.repeat(times, axis=0).repeat(times, axis=1)[:height, :width]


def picture(path: Path, seed: int, width: int, height: int, *, mode: str = "RGB") -> Path:
    """Writes a drawn picture in the format of the suffix; `RGBA` adds an opaque alpha channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height)).convert(mode).save(path)
    return path


def instances(width: int, height: int, rectangles: Sequence[Rectangle]) -> NDArray[np.uint8]:
    """Returns a mask (H, W) that numbers the rectangles from 1."""
    mask_HW = np.zeros((height, width), np.uint8)
    for number, (left, top, right, bottom) in enumerate(rectangles, 1):
        mask_HW[top:bottom, left:right] = number
    return mask_HW


def mask(path: Path, mask_HW: NDArray[np.uint8], *, palette: Sequence[int] = ()) -> Path:
    """Writes a mask, grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask_HW)
    if palette:
        image = image.convert("P")
        image.putdata([int(value) for value in mask_HW.reshape(-1)])
        image.putpalette(list(palette))
    image.save(path)
    return path


def csv_file(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def mat_file(path: Path, **arrays: Any) -> Path:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: np.asarray(array, dtype=np.float64) for key, array in arrays.items()})
    return path


def workbook(path: Path, sheets: dict[str, Sequence[Sequence[object]]]) -> Path:
    """Writes an Excel workbook as Excel does: words in a shared list, blank cells not stored, numbers as 1 or 1.0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = list(
        dict.fromkeys(c for rows in sheets.values() for row in rows for c in row if isinstance(c, str) and c)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        listed = "".join(f"<si><t>{escape(word)}</t></si>" for word in words)
        book.writestr("xl/sharedStrings.xml", f'{_HEAD}<sst xmlns="{_MAIN}">{listed}</sst>')
        named = "".join(
            f'<sheet name="{escape(t)}" sheetId="{i}" r:id="rId{i}"/>' for i, t in enumerate(sheets, 1)
        )
        book.writestr(
            "xl/workbook.xml",
            f'{_HEAD}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{named}</sheets></workbook>',
        )
        relations = "".join(
            f'<Relationship Id="rId{i}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{i}.xml"/>'
            for i in range(1, len(sheets) + 1)
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'{_HEAD}<Relationships xmlns="{_PACKAGE}">{relations}</Relationships>',
        )
        for i, rows in enumerate(sheets.values(), 1):
            body = "".join(_row(number, row, words) for number, row in enumerate(rows, 1))
            text = f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
            book.writestr(f"xl/worksheets/sheet{i}.xml", text)
    return path


def _row(number: int, row: Sequence[object], words: Sequence[str]) -> str:
    cells = ""
    for column, value in enumerate(row):
        at = f"{chr(ord('A') + column)}{number}"
        if isinstance(value, str) and value:
            cells += f'<c r="{at}" t="s"><v>{words.index(value)}</v></c>'
        elif value not in ("", None):
            cells += f'<c r="{at}"><v>{value}</v></c>'
    return f'<row r="{number}">{cells}</row>'
