"""CAMELYON16: training slides as pyramidal TIFF files and an ASAP file of outlines for each slide with a metastasis.

`training/normal/normal_001.tif`, `training/tumor/tumor_001.tif` and `training/lesion_annotations.zip` with `tumor_001.xml`, or all slides
in `images` and all outlines in `annotations`, as one of the hosts has them; capitals differ between hosts (`Tumor_001.tif`). Outlines of
the groups Tumor, _0 and _1 are tumour, those of _2 are holes in it. Test slides and the files of masks are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import partner, some
from histozoo.prepare.pictures import Layout, Marks, Picture, Size

if TYPE_CHECKING:
    from histozoo.prepare.canvases import SlideCanvas
    from histozoo.prepare.sources import Source

KINDS = {"Tumor": "tumour", "_0": "tumour", "_1": "tumour", "_2": "hole"}
"""What the outlines of each group enclose."""

NOT_VALID = frozenset(("normal_086",))
"""Slides that the organisers withdrew."""

_SLIDE = re.compile(r"(?:^|/)((?:normal|tumor)_\d{3})\.(?:tif|xml)\Z", re.IGNORECASE)


def pictures(source: Source) -> list[Picture]:
    """Lists the training slides, each a group of its own because patients are not published.

    Raises:
        UsageError: `HZ-U73`, no slides, or a tumour slide without outlines.
    """
    named = {name: match[1].lower() for name in source.names() if (match := _SLIDE.search(name))}
    outlines = {slide + ".xml": name for name, slide in named.items() if name.endswith(".xml")}
    slides = [name for name in named if name.endswith(".tif") and named[name] not in NOT_VALID]
    listed = some(slides, "tumor_001.tif and others", source.where)
    return each(source, listed, lambda name: _picture(name, named[name], outlines))


def _picture(name: str, slide: str, outlines: dict[str, str]) -> Picture:
    marks = outlines[partner(outlines, f"{slide}.xml", name)] if slide.startswith("tumor") else ""
    return Picture(name=name, group=slide, marks=marks)


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the area `tumour`, empty on normal slides, and where there is tissue.

    Raises:
        UsageError: `HZ-U73`, the outlines cannot be read or belong to an unknown group.
    """
    from histozoo.prepare.annotations import asap_xml
    from histozoo.prepare.areas import PolygonArea
    from histozoo.prepare.canvases import tissue_area

    outlines = asap_xml(source, picture.marks, kinds=KINDS) if picture.marks else ()
    tumour = PolygonArea(
        [outline.corners_N2 for outline in outlines if outline.kind == "tumour"],
        size,
        holes=[outline.corners_N2 for outline in outlines if outline.kind == "hole"],
    )
    return Marks(areas={"tumour": tumour}, tissue=tissue_area(slide(source, picture)))


def slide(source: Source, picture: Picture) -> SlideCanvas:
    """Opens a slide, of which only single boxes are ever decoded."""
    from histozoo.prepare.canvases import SlideCanvas

    return SlideCanvas.read(source, picture.name)


LAYOUT = Layout(pictures=pictures, marks=marks, open=slide)
