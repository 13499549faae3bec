"""SICAPv2: `images/<name>.jpg` of 512 x 512 px, `masks/`, and `partition/Test/{Train,Test}.xlsx`, which label the images.

The workbooks have the columns image_name, NC, G3, G4, G5 and G4C (public readers of the set); the four first are 1 or 0. G4C marks the
cribriform pattern within grade 4 and is not used. Names are such as 16B0001851_Block_Region_1_0_7_xini_6803_yini_59786.jpg: biopsy,
region, place. Images that no workbook lists (about a third) have no label and are left out. `partition/Validation/Val1..Val4` divides the
training part again for cross-validation and is not used.

The group is the number of the biopsy without the letters behind it: 18B0005478A and 18B0005478J are read as blocks of one case. That the
rows have exactly one mark, and that the number is the case, is inferred and not stated by the authors where we looked; a row with another
number of marks is refused.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import Row, keyed, sheet
from histozoo.prepare.pictures import Layout, Picture
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

MARKS = {"NC": "non_cancerous", "G3": "gleason_3", "G4": "gleason_4", "G5": "gleason_5"}
"""Our class of each column."""
PARTS = {"Train.xlsx": "train", "Test.xlsx": "test"}


def pictures(source: Source) -> list[Picture]:
    """Lists the labelled images in the order of the workbooks.

    Raises:
        UsageError: `HZ-U73`, a workbook or a listed image is missing, or a row does not have exactly one mark.
    """
    images = {PurePosixPath(name).stem: name for name in source.matching("images/*.jpg")}
    return [picture for part, split in PARTS.items() for picture in _part(source, part, split, images)]


def _part(source: Source, part: str, split: str, images: dict[str, str]) -> list[Picture]:
    book = source.one(f"partition/Test/{part}")
    rows = keyed(sheet(source, book, ("image_name", *MARKS)), _stem, book)

    def tile(stem: str) -> Picture:
        if stem not in images:
            raise malformed(
                "a listed picture is missing", book, expected=f"images/{stem}.jpg", got="no such file"
            )
        label = _label(rows[stem], book)
        return Picture(name=images[stem], group=_case(stem), label=label, split=split)

    return each(source, rows, tile, name=lambda stem: images.get(stem, f"{book}, {stem}"))


def _stem(row: Row) -> str:
    return PurePosixPath(row["image_name"]).name.removesuffix(".jpg")


def _label(row: Row, book: str) -> str:
    marked = [column for column in MARKS if row[column] == "1"]
    if len(marked) != 1:
        got = ", ".join(marked) or "none"
        raise malformed(
            "a row does not have one mark",
            f"{book}, {row['image_name']}",
            expected="NC, G3, G4 or G5",
            got=got,
        )
    return MARKS[marked[0]]


def _case(stem: str) -> str:
    biopsy = stem.split("_Block_")[0]
    match = re.match(r"\d+[A-Z]\d+", biopsy)
    return match[0] if match else biopsy


LAYOUT = Layout(pictures=pictures)
