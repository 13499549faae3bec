"""Gleason patterns on prostate tissue microarrays (Arvaniti et al. 2018): spots of about 3,100 x 3,100 px and palette masks of grades.

    ZT76_39_A/ZT76_39_A_1_1.jpg ...                                  spots, one archive per microarray block
    Gleason_masks_train/mask_ZT76_39_A_1_1.png                       the first pathologist's masks of ZT76, ZT111, ZT199 and ZT204
    Gleason_masks_test_pathologist1/mask1_ZT80_38_A_1_1.png          the same pathologist's masks of the test cohort ZT80
    Gleason_masks_test_pathologist2/mask2_...                        a second opinion, not read

Names, the palette (0 benign, 1 to 3 Gleason 3 to 5, 4 not annotated) and the rule are those of the authors' repository eiriniar/gleason_CNN
(utils/create_patches.py); ZT76 is the validation cohort there. The authors also drop tiles whose mean is above 180 of 255, and in the test
cohort tiles that the second pathologist left open; we do neither, so our tiles are more than the 22,752 that kaiko-ai/eva counts. A spot is
one patient; spots without a mask have no label and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from histozoo.prepare.areas import class_areas
from histozoo.prepare.grid import Declared, Grid, check_mapping, check_numbers, regions
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import some
from histozoo.prepare.pictures import Box, Layout, Marks, Picture, Size
from histozoo.prepare.plan import Cut
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

VALUES = {0: "benign", 1: "gleason_3", 2: "gleason_4", 3: "gleason_5"}
"""Area word of each mask value; 4 is not annotated."""
NOT_ANNOTATED = 4
MASKS = ("Gleason_masks_train/mask_", "Gleason_masks_test_pathologist1/mask1_")
_SPLITS = {"ZT76": "val", "ZT80": "test", "ZT111": "train", "ZT199": "train", "ZT204": "train"}


@dataclass(frozen=True, kw_only=True)
class OneGrade(Declared):
    """A grid; a tile has the class of the one area that its middle third touches, and is left out where there is none or several.

    Args:
        px: Side of a tile in pixels.
        stride: From one tile to the next, in pixels.
        kinds: Class of each area word.

    Raises:
        UsageError: `HZ-U70`, a parameter makes no sense.
    """

    px: int
    stride: int
    kinds: Mapping[str, str]

    def __post_init__(self) -> None:
        check_numbers(px=self.px, stride=self.stride)
        check_mapping(kinds=self.kinds)

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the tiles with one grade, row by row.

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than a tile; `HZ-U70`, the layout has no such area; `HZ-U71`, an area of
                another size.
        """
        areas = list(zip(regions(marks, self.kinds, size), self.kinds.values(), strict=True))
        found = []
        for box in Grid.of(size, px=self.px, stride=self.stride).boxes():
            core = self._core(box)
            labels = [label for area, label in areas if area.fraction(core) > 0]
            if len(labels) == 1:
                found.append(Cut(box, labels[0]))
        return found

    def _core(self, box: Box) -> Box:
        third = self.px // 3
        left, top = box[0] + third, box[1] + third
        return left, top, left + third, top + third


def pictures(source: Source) -> list[Picture]:
    """Lists the spots that have a mask.

    Raises:
        UsageError: `HZ-U73`, there are none, a spot of a mask is missing, or its microarray is none of the five.
    """
    spots = {PurePosixPath(name).stem: name for name in source.matching("ZT*.jpg")}
    masks = {name: prefix for prefix in MASKS for name in source.matching(f"{prefix}*.png")}
    some(list(masks), " and ".join(f"{prefix}*.png" for prefix in MASKS), source.where)
    return each(source, masks, lambda mask: _spot(mask, masks[mask], spots))


def _spot(mask: str, prefix: str, spots: dict[str, str]) -> Picture:
    stem = PurePosixPath(mask).stem.removeprefix(PurePosixPath(prefix).name)
    if stem not in spots:
        raise malformed("the spot of a mask is missing", mask, expected=f"{stem}.jpg", got="no such file")
    microarray = stem.split("_")[0]
    if microarray not in _SPLITS:
        raise malformed(
            "a microarray is not one of those published", mask, expected=", ".join(_SPLITS), got=microarray
        )
    return Picture(name=spots[stem], group=stem, split=_SPLITS[microarray], marks=mask)


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the area of each grade.

    Raises:
        UsageError: `HZ-U73`, the mask is missing, of another size or holds another value.
    """
    from histozoo.prepare.annotations import mask_image

    mask_HW = mask_image(source, picture.marks, size, values={*VALUES, NOT_ANNOTATED})
    return Marks(areas=dict(class_areas(mask_HW, VALUES)))


LAYOUT = Layout(pictures=pictures, marks=marks)
