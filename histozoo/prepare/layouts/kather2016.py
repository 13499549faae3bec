"""Kather 2016: eight folders of TIFF tiles, the slide in the name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import fields, listed
from histozoo.prepare.layouts.reading import translated
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

WORDS = {
    "01_TUMOR": "tumor",
    "02_STROMA": "stroma",
    "03_COMPLEX": "complex",
    "04_LYMPHO": "lympho",
    "05_DEBRIS": "debris",
    "06_MUCOSA": "mucosa",
    "07_ADIPOSE": "adipose",
    "08_EMPTY": "empty",
}
"""Class of each folder."""

# Parts of a scan are marked as `_007`, `_007b`, `c` or `_002c`, with and without the underscore: only the two digits name the slide.
_NAME = r"(?P<folder>[^/]+)/[0-9A-Fa-f]+_(?P<slide>CRC-Prim-HE-\d\d)[^/]*\.tif_Row_(?P<row>\d+)_Col_(?P<col>\d+)\.tif"


def pictures(source: Source) -> list[Picture]:
    """Lists the tiles, grouped by slide.

    Raises:
        UsageError: `HZ-U73`, no tiles, another name, or an unknown folder.
    """
    return each(source, listed(source, "*_Row_*_Col_*.tif"), _picture)


def _picture(name: str) -> Picture:
    at = fields(name, _NAME, like="01_TUMOR/10009_CRC-Prim-HE-03_009.tif_Row_301_Col_151.tif")
    return Picture(name=name, group=at["slide"], label=translated(at["folder"], WORDS, name))


LAYOUT = Layout(pictures=pictures)
