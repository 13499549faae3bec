"""CoNSeP: `CoNSeP/<Train or Test>/Images/train_1.png` of 1,000 x 1,000 px and `CoNSeP/<Train or Test>/Labels/train_1.mat`.

A MATLAB file holds `inst_map` (0 outside, numbers inside nuclei), `type_map` (0 outside, else the type of the nucleus, 1 to 7),
`inst_type` and `inst_centroid`; the two maps are read. Folders, types and the split of 27 and 14 pictures as in the documentation and
loader of kaiko-ai/eva. The 41 pictures come from 16 patients, whom no file names, so each picture is a group of its own.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from histozoo.prepare.areas import MaskArea, class_areas
from histozoo.prepare.layouts import instance_maps
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import beside, partner, some
from histozoo.prepare.pictures import Area, Layout, Marks, Picture, Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

SPLITS = {"Train": "train", "Test": "test"}
"""Our split of each folder."""
TYPES = {
    1: "other",
    2: "inflammatory",
    3: "healthy_epithelial",
    4: "malignant_epithelial",
    5: "fibroblast",
    6: "muscle",
    7: "endothelial",
}
"""Area word of each type; the word `nucleus` is the area of all instances."""


def pictures(source: Source) -> list[Picture]:
    """Lists the pictures of both splits.

    Raises:
        UsageError: `HZ-U73`, there are none, or a MATLAB file is missing.
    """
    names = frozenset(source.names())
    found = [
        picture
        for folder, split in SPLITS.items()
        for picture in each(
            source, source.matching(f"{folder}/Images/*.png"), partial(_picture, split=split, names=names)
        )
    ]
    some([picture.name for picture in found], "<Train or Test>/Images/*.png", source.where)
    return found


def _picture(name: str, split: str, names: frozenset[str]) -> Picture:
    labels = partner(names, beside(name, "Labels", suffix=".mat"), name)
    return Picture(name=name, group=PurePosixPath(name).stem, split=split, marks=labels)


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the nuclei as one area, and the area of each type.

    Raises:
        UsageError: `HZ-U73`, a map is missing, of another size or holds an unknown type.
    """
    maps = instance_maps.read(source, picture.marks, ("inst_map", "type_map"), size)
    types_HW = maps["type_map"]
    unknown = sorted({int(value) for value in np.unique(types_HW)} - {0, *TYPES})
    if unknown:
        raise malformed(
            "a type is not one of those published", picture.marks, expected="0 to 7", got=unknown[:5]
        )
    areas: dict[str, Area] = {"nucleus": MaskArea(maps["inst_map"] > 0)}
    return Marks(areas=areas | dict(class_areas(types_HW, TYPES)))


LAYOUT = Layout(pictures=pictures, marks=marks)
