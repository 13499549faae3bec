"""Janowczyk's use case 5: `01_01.tif` and the mask `01_01_pc.png`, in which every blob is a mitosis; the patient is the first number."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import by_last_part, fields, listed
from histozoo.prepare.layouts.reading import partner
from histozoo.prepare.pictures import Layout, Marks, Picture, Size, Thing

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source


def pictures(source: Source) -> list[Picture]:
    """Lists the images, grouped by patient.

    Raises:
        UsageError: `HZ-U73`, no images, another name, or an image without its mask.
    """
    masks = by_last_part(source.matching("*_pc.png"))
    return each(source, listed(source, "*.tif"), lambda name: _picture(name, masks))


def _picture(name: str, masks: dict[str, str]) -> Picture:
    at = fields(name, r"(?P<stem>(?P<patient>\d\d)_\d+)\.tif", like="01_01.tif")
    mask = masks[partner(masks, f"{at['stem']}_pc.png", name)]
    return Picture(name=name, group=at["patient"], marks=mask)


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the mitoses: connected pixels of the mask, corners included, with centre and bounding box.

    Raises:
        UsageError: `HZ-U73`, the mask is missing or of another size; `HZ-U76`, scipy is not installed.
    """
    from histozoo.prepare.annotations import mask_image
    from histozoo.prepare.optional import scipy_io

    scipy_io(picture.marks)  # says what to install
    ndimage = importlib.import_module("scipy.ndimage")
    mask_HW = mask_image(source, picture.marks, size) > 0
    blobs_HW, _ = ndimage.label(mask_HW, structure=[[1, 1, 1]] * 3)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(blobs_HW)]
    return Marks(things=tuple(_thing(box) for box in boxes))


def _thing(box: tuple[int, int, int, int]) -> Thing:
    left, top, right, bottom = box
    return Thing((left + right) / 2, (top + bottom) / 2, "mitosis", (left, top, right, bottom))


LAYOUT = Layout(pictures=pictures, marks=marks)
