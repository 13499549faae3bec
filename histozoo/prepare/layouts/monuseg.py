"""MoNuSeg 2018 (with Kumar's pictures in its training part): TIFF of 1,000 x 1,000 px and Aperio ImageScope XML.

    MoNuSeg 2018 Training Data/Tissue Images/TCGA-18-5592-01Z-00-DX1.tif
    MoNuSeg 2018 Training Data/Annotations/TCGA-18-5592-01Z-00-DX1.xml
    MoNuSegTestData/TCGA-2Z-A9J9-01A-01-TS1.tif, and .xml beside it

Folders as in the loader of constantinpape/torch-em. Each Region of a file is one nucleus, its Vertices are corners in pixels. The group
is the TCGA patient, the first twelve characters of the name. Kumar's set is the same pictures; Kumar's own split lies within the training
part.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.areas import PolygonArea
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import beside, partner, some
from histozoo.prepare.pictures import Layout, Marks, Picture, Size

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

TRAIN, TEST = "Tissue Images/TCGA-*.tif", "MoNuSegTestData/TCGA-*.tif"
PATIENT_CHARACTERS = 12


def pictures(source: Source) -> list[Picture]:
    """Lists the pictures of both parts.

    Raises:
        UsageError: `HZ-U73`, a part is missing, or a picture's annotation is.
    """
    names = frozenset(source.names())
    train = some(source.matching(TRAIN), TRAIN, source.where)
    test = some(source.matching(TEST), TEST, source.where)
    return [
        *each(source, train, lambda n: _picture(n, "train", beside(n, "Annotations", suffix=".xml"), names)),
        *each(source, test, lambda n: _picture(n, "test", beside(n, suffix=".xml"), names)),
    ]


def _picture(name: str, split: str, annotation: str, names: frozenset[str]) -> Picture:
    patient = PurePosixPath(name).stem[:PATIENT_CHARACTERS]
    return Picture(name=name, group=patient, split=split, marks=partner(names, annotation, name))


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the nuclei as one area.

    Raises:
        UsageError: `HZ-U73`, the annotation is missing or malformed.
    """
    from histozoo.prepare.annotations import imagescope_xml

    outlines = imagescope_xml(source, picture.marks)
    nuclei, holes = ([o.corners_N2 for o in outlines if o.hole is hole] for hole in (False, True))
    return Marks(areas={"nucleus": PolygonArea(nuclei, size, holes=holes)})


LAYOUT = Layout(pictures=pictures, marks=marks)
