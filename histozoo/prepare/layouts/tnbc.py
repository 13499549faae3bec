"""TNBC nuclei (Naylor et al.): `TNBC_NucleiSegmentation/Slide_01/01_1.png` and its mask `GT_01/01_1.png`, 512 x 512 px.

Folders as in the loader of constantinpape/torch-em, which also notes that the pictures carry an alpha channel that says nothing; the
decoder drops it where it is opaque. A mask is above 0 where there is a nucleus. Each of the eleven numbers is one patient, and is the
group. There is no official split.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.areas import MaskArea
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import beside, partner, some
from histozoo.prepare.pictures import Layout, Marks, Picture, Size

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source


def pictures(source: Source) -> list[Picture]:
    """Lists the pictures of all patients.

    Raises:
        UsageError: `HZ-U73`, there are none, or a mask is missing.
    """
    names = frozenset(source.names())
    listed = some(source.matching("Slide_*/*.png"), "Slide_<patient>/*.png", source.where)
    return each(source, listed, lambda name: _picture(name, names))


def _picture(name: str, names: frozenset[str]) -> Picture:
    slide = PurePosixPath(name).parent.name
    mask = partner(names, beside(name, slide.replace("Slide_", "GT_")), name)
    return Picture(name=name, group=slide, marks=mask)


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the nuclei as one area.

    Raises:
        UsageError: `HZ-U73`, the mask is missing or of another size.
    """
    from histozoo.prepare.annotations import mask_image

    mask_HW = mask_image(source, picture.marks, size)
    return Marks(areas={"nucleus": MaskArea(mask_HW > 0)})


LAYOUT = Layout(pictures=pictures, marks=marks)
