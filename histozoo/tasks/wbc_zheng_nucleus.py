"""Nucleus, cytoplasm or surroundings at the middle of tiles of white blood cells, blood smear: masks turned into classes.

The rule is that of "Breast1" in Mormont, Geurts, Maree (IEEE JBHI 25(2), 2021): the class of the pixel in the tile's middle. A cell is
75 px wide in the first source and 156 px in the second (medians of the masks); tiles of 40 px, half a tile apart, show what surrounds
the pixel without showing the whole cell. Two thirds of the pixels are surroundings: as the paper caps tiles per slide, four tiles of
each class are drawn from each image.
The counts were computed from the 399 masks with that rule; they are not published.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tile_table import Blocks, TileTable
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import CentrePixel
from histozoo.tasks.base import Task

TASK = Task(
    name="wbc_zheng_nucleus",
    kind="multiclass",
    folder="wbc_zheng_nucleus",
    classes=("surroundings", "cytoplasm", "nucleus"),
    counts=(1576, 1511, 1492),
    organ="blood",
    stain="rapid haematology reagent (first source), Romanowsky type (second source)",
    licence="unknown",
    licence_note="the repository is under GPL-3.0; rights in the second source's images (CellaVision blog) are unclear",
    source="https://github.com/zxaoyou/segmentation_WBC",
    citation=(
        "X. Zheng, Y. Wang, G. Wang, J. Liu, Fast and robust segmentation of white blood cell images by self-supervised learning, "
        "Micron 107 (2018) 55-71"
    ),
    lineage="wbc_zheng",
    preparation=Preparation(
        layout=TileTable(
            folder="wbc_zheng",
            values=((1, "cytoplasm"), (2, "nucleus")),
            # Long runs of one class say that the numbering follows the acquisition.
            groups=Blocks(pattern=r"(d[12])_(\d+)\.\w+$", size=10),
        ).layout(),
        rule=CentrePixel(
            px=40, stride=20, kinds={"nucleus": "nucleus", "cytoplasm": "cytoplasm"}, otherwise="surroundings"
        ),
        format="png",
        cap=4,
        pictures=399,
        parts=("wbc_zheng",),
    ),
    traps=(
        "two sources of different scale, colour and compression",
        "red cells are surroundings, although they are cells",
    ),
    notes=(
        "Patients are not known: groups are blocks of ten consecutive numbers within a source, which may divide a smear. All five cell "
        "types are used; the cell type is not the label."
    ),
)
