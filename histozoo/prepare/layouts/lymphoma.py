"""Lymphoma (IICBU, as the tutorial's archive holds it): three folders of TIFF files, the slide in the name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import fields, listed
from histozoo.prepare.layouts.reading import translated
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_WORDS = {label: label for label in ("CLL", "FL", "MCL")}
_ONE_CASE = ("sj-05-6124-R3", "sj-05-6124-R4")


def pictures(source: Source) -> list[Picture]:
    """Lists the images, grouped by slide; two slides that may be one case are one group.

    Raises:
        UsageError: `HZ-U73`, no images, another name, or an unknown folder.
    """
    return each(source, listed(source, "sj-*.tif"), _picture)


def _picture(name: str) -> Picture:
    at = fields(name, r"(?P<folder>[^/]+)/(?P<slide>sj-[^/]+)_\d+\.tif", like="FL/sj-05-588-R1_001.tif")
    group = "sj-05-6124-R3+R4" if at["slide"] in _ONE_CASE else at["slide"]
    return Picture(name=name, group=group, label=translated(at["folder"], _WORDS, name))


LAYOUT = Layout(pictures=pictures)
