"""BACH, microscopy images: four folders of TIFF files with running numbers, and the published runs of images that share no patient."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import agree, fields, listed
from histozoo.prepare.layouts.reading import translated
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_WORDS = {"Benign": "benign", "InSitu": "in_situ", "Invasive": "invasive", "Normal": "normal"}
_LETTERS = {"b": "Benign", "is": "InSitu", "iv": "Invasive", "n": "Normal"}

BORDERS = (0, 41, 59, 60, 90, 139, 169, 240, 258, 260, 273, 345, 368)
"""Where kaiko-ai/eva changes between train and validation, in the order Benign, InSitu, Invasive, Normal of all 400 images, 100 each."""


def pictures(source: Source) -> list[Picture]:
    """Lists the labelled images with the split of kaiko-ai/eva; a group is a run of one class between its borders.

    Raises:
        UsageError: `HZ-U73`, no images, another name, or an unknown folder.
    """
    return each(source, listed(source, "Photos/*/*.tif"), _picture)


def _picture(name: str) -> Picture:
    at = fields(name, r"(?P<folder>[^/]+)/(?P<letters>[a-z]+)(?P<number>\d{3})\.tif", like="Benign/b001.tif")
    label = translated(at["folder"], _WORDS, name)
    agree(name, "class", (at["folder"], translated(at["letters"], _LETTERS, name)))
    place = list(_WORDS).index(at["folder"]) * 100 + int(at["number"]) - 1
    run = bisect.bisect_right(BORDERS, place) - 1
    split = "val" if run % 2 else "train"
    return Picture(name=name, group=f"{label}-run{run:02d}", label=label, split=split)


LAYOUT = Layout(pictures=pictures)
