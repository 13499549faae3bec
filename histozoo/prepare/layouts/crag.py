"""CRAG: `<split>/Images/train_1.png` and its mask of the same name in `<split>/Annotation` (the README inside says `Annotations`).

The README (a public copy of version 2 is in XiaoyuZHK/CRAG-Dataset_Aug_ToCOCO) gives 173 training and 40 test pictures at 20x and the
folders train and test; other copies call the second one valid. Pictures are about 1,512 x 1,512 px; a mask numbers its glands from 1.
Version 1 has five masks in its test folder that belong to no picture; masks without a picture are passed over. Nothing names slides or
patients, so each picture is a group of its own.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.areas import MaskArea
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import beside, some
from histozoo.prepare.pictures import Layout, Marks, Picture, Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

SPLITS = {"train": "train", "test": "test", "valid": "test"}
"""Our split of each folder."""
MASKS = ("Annotation", "Annotations")
"""Names under which the folder of masks is found."""


def pictures(source: Source) -> list[Picture]:
    """Lists the pictures of both splits.

    Raises:
        UsageError: `HZ-U73`, there are none, or a mask is missing.
    """
    names = frozenset(source.names())
    found = [
        picture
        for folder, split in SPLITS.items()
        for picture in each(
            source, source.matching(f"{folder}/Images/*.png"), partial(_picture, split=split, names=names)
        )
    ]
    some([picture.name for picture in found], "<train or test>/Images/*.png", source.where)
    return found


def _picture(name: str, split: str, names: frozenset[str]) -> Picture:
    masks = [beside(name, folder) for folder in MASKS]
    there = [mask for mask in masks if mask in names]
    if not there:
        raise malformed(
            "a picture's annotation is missing", name, expected=" or ".join(masks), got="no such file"
        )
    return Picture(name=name, group=PurePosixPath(name).stem, split=split, marks=there[0])


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the glands as one area.

    Raises:
        UsageError: `HZ-U73`, the mask is missing or of another size.
    """
    from histozoo.prepare.annotations import mask_image

    mask_HW = mask_image(source, picture.marks, size)
    return Marks(areas={"gland": MaskArea(mask_HW > 0)})


LAYOUT = Layout(pictures=pictures, marks=marks)
