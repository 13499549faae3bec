"""MITOS-ATYPIA 14: per slide and scanner 40x frames, and two CSV files for each, of mitoses and of what looks like one.

`A03/frames/x40/A03_00Aa.tiff` has `A03/mitosis/A03_00Aa_mitosis.csv` and `A03_00Aa_not_mitosis.csv`, in which a row is x, y and a
confidence; a file may be empty. A is the Aperio scan and H the Hamamatsu scan of slide 03. The test slides have no published CSV files
and are left out, as are the frames of 10x and 20x and whatever else lies there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import fields, listed
from histozoo.prepare.layouts.reading import partner
from histozoo.prepare.pictures import Layout, Marks, Picture, Size

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

TEST_SLIDES = frozenset(("06", "08", "09", "13", "16"))
"""Slides whose annotation was not published; from memory."""
_TEST = re.compile(rf"/[AH]({'|'.join(sorted(TEST_SLIDES))})_[^/]*\Z")

KINDS = {"mitosis": "_mitosis.csv", "non_mitosis": "_not_mitosis.csv"}
"""Ending of the file of each kind; the order is the priority of their classes."""


def pictures(source: Source) -> list[Picture]:
    """Lists the 40x frames of the training slides, grouped by slide: both scans of a slide are one group.

    Raises:
        UsageError: `HZ-U73`, no frames, another name, or a frame that lacks one of its CSV files.
    """
    names = frozenset(source.names())
    frames = [name for name in listed(source, "frames/x40/*.tiff") if not _TEST.search(name)]
    return each(source, frames, lambda name: _picture(name, names))


def _picture(name: str, names: frozenset[str]) -> Picture:
    at = fields(name, r"frames/x40/[AH](?P<slide>\d\d)_\d\d[A-D][a-d]\.tiff", like="frames/x40/A03_00Aa.tiff")
    for kind in KINDS:
        partner(names, _table(name, kind), name)
    return Picture(name=name, group=f"slide-{at['slide']}")


def _table(name: str, kind: str) -> str:
    slide, _, frame = name.rpartition("frames/x40/")
    return f"{slide}mitosis/{frame.removesuffix('.tiff')}{KINDS[kind]}"


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads mitoses and look-alikes.

    Raises:
        UsageError: `HZ-U73`, a line is not two numbers and a confidence.
    """
    from histozoo.prepare.annotations import points_csv

    columns = ("x", "y", "confidence")
    found = [points_csv(source, _table(picture.name, k), kind=k, columns=columns) for k in KINDS]
    return Marks(things=tuple(thing for things in found for thing in things))


LAYOUT = Layout(pictures=pictures, marks=marks)
