"""Bone marrow cells of Kainz 2017, in the folders 0 to 7 in which the authors of the multi-task paper hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import fields, listed
from histozoo.prepare.layouts.reading import translated
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_WORDS = {str(number): f"cell_{number}" for number in range(8)}


def pictures(source: Source) -> list[Picture]:
    """Lists the cells, each a group of its own because nothing tells patients apart.

    Raises:
        UsageError: `HZ-U73`, no images, another name, or an unknown folder.
    """
    return each(source, listed(source, "*/*.png"), _picture)


def _picture(name: str) -> Picture:
    at = fields(name, r"(?P<folder>[^/]+)/(?P<number>\d+)\.png", like="3/0273.png")
    label = translated(at["folder"], _WORDS, name)
    # Numbers begin again in each folder as far as is known, so a number alone would join cells of several folders.
    return Picture(name=name, group=f"{at['folder']}/{at['number']}", label=label)


LAYOUT = Layout(pictures=pictures)
