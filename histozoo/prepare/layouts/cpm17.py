"""CPM17 nuclei as HoVer-Net's authors hand it on: `cpm17/<split>/Images/image_00.png` and `cpm17/<split>/Labels/image_00.mat`.

Folders and the key `inst_map` (0 outside, numbers inside nuclei) as in the loader of constantinpape/torch-em and in vqdang/hover_net. The
challenge itself gave text files, which are not read. 32 pictures train and 32 test (from memory; not checked), of 500 x 500 to 600 x 600
px, at 20x or 40x, from TCGA slides of four tumours; their names do not say which, so each picture is a group of its own.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.areas import MaskArea
from histozoo.prepare.layouts import instance_maps
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import beside, partner, some
from histozoo.prepare.pictures import Layout, Marks, Picture, Size

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

SPLITS = ("train", "test")


def pictures(source: Source) -> list[Picture]:
    """Lists the pictures of both splits.

    Raises:
        UsageError: `HZ-U73`, there are none, or an instance map is missing.
    """
    names = frozenset(source.names())
    found = [
        picture
        for split in SPLITS
        for picture in each(
            source,
            source.matching(f"{split}/Images/image_*.png"),
            partial(_picture, split=split, names=names),
        )
    ]
    some([picture.name for picture in found], "<train or test>/Images/image_*.png", source.where)
    return found


def _picture(name: str, split: str, names: frozenset[str]) -> Picture:
    # train and test both start at image_00.
    group = f"{split}-{PurePosixPath(name).stem}"
    return Picture(
        name=name, group=group, split=split, marks=partner(names, beside(name, "Labels", suffix=".mat"), name)
    )


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the nuclei as one area.

    Raises:
        UsageError: `HZ-U73`, the map is missing or of another size.
    """
    maps = instance_maps.read(source, picture.marks, ("inst_map",), size)
    return Marks(areas={"nucleus": MaskArea(maps["inst_map"] > 0)})


LAYOUT = Layout(pictures=pictures, marks=marks)
