"""Janowczyk's use cases 1 and 2: TIFF images and a PNG mask for each, the patient in front of the first underscore.

Use case 1 (nuclei): `12750_500_f00003_original.tif` and `12750_500_f00003_mask.png` side by side. Use case 2 (epithelium): `X.tif` and
`X_mask.png`, the masks in the folder `masks` or beside the images. A mask is above 0 where there is what was drawn. An image without a
mask is not part of the set, as in the tutorial's own code; that there are as many as published is checked by their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.areas import MaskArea
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import by_last_part, fields, listed
from histozoo.prepare.layouts.reading import partner
from histozoo.prepare.pictures import Layout, Marks, Picture, Size

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source


def nuclei_pictures(source: Source) -> list[Picture]:
    """Lists the images of use case 1 that have a mask, grouped by patient.

    Raises:
        UsageError: `HZ-U73`, no masks, another name, or a mask without its image.
    """
    return _pictures(source, "_original.tif")


def epithelium_pictures(source: Source) -> list[Picture]:
    """Lists the images of use case 2 that have a mask, grouped by patient.

    Raises:
        UsageError: `HZ-U73`, no masks, another name, or a mask without its image.
    """
    return _pictures(source, ".tif")


def _pictures(source: Source, ending: str) -> list[Picture]:
    masks = by_last_part(listed(source, "*_mask.png"))
    images = by_last_part(source.matching("*.tif"))
    return each(source, list(masks.values()), lambda mask: _picture(mask, ending, images))


def _picture(mask: str, ending: str, images: dict[str, str]) -> Picture:
    image = mask.rpartition("/")[2].removesuffix("_mask.png") + ending
    at = fields(mask, r"(?P<patient>\d+)_[^/]+_mask\.png", like="12750_500_f00003_mask.png")
    return Picture(name=images[partner(images, image, mask)], group=at["patient"], marks=mask)


def nuclei_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the area `nuclei`.

    Raises:
        UsageError: `HZ-U73`, the mask is missing or of another size.
    """
    return Marks(areas={"nuclei": _drawn(source, picture, size)})


def epithelium_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the area `epithelium`.

    Raises:
        UsageError: `HZ-U73`, the mask is missing or of another size.
    """
    return Marks(areas={"epithelium": _drawn(source, picture, size)})


def _drawn(source: Source, picture: Picture, size: Size) -> MaskArea:
    from histozoo.prepare.annotations import mask_image

    return MaskArea(mask_image(source, picture.marks, size) > 0)


NUCLEI = Layout(pictures=nuclei_pictures, marks=nuclei_marks)
EPITHELIUM = Layout(pictures=epithelium_pictures, marks=epithelium_marks)
