"""Epithelium and stroma of Linder 2012: the first character of a name is the class."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import fields
from histozoo.prepare.layouts.reading import some, translated
from histozoo.prepare.pictures import Layout, Picture
from histozoo.tile_lists import is_tile_name

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_WORDS = {"0": "epithelium", "1": "stroma"}


def pictures(source: Source) -> list[Picture]:
    """Lists the images in whatever folder they lie, grouped by the number in the name.

    Raises:
        UsageError: `HZ-U73`, no images, another name, or an unknown class.
    """
    images = [name for name in source.names() if is_tile_name(PurePosixPath(name))]
    return each(source, some(images, "image files", source.where), _picture)


def _picture(name: str) -> Picture:
    at = fields(name, r"(?P<label>\d)_(?P<number>\d+)_[^/]+", like="0_60570_Oncotex_str_valid.png")
    return Picture(name=name, group=at["number"], label=translated(at["label"], _WORDS, name))


LAYOUT = Layout(pictures=pictures)
