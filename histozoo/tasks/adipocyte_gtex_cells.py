"""Middle of a fat cell or not, in tiles of subcutaneous fat of GTEx, H&E: marked cells turned into classes.

A cell is 12 px wide (150 x 150 px hold 155 of them), so a tile that shows enough to be told apart holds several. The rule is that of
"Breast1" in Mormont, Geurts, Maree (IEEE JBHI 25(2), 2021): the class of the pixel in the tile's middle; all pixels within 3 px of a
marked point, a quarter of a cell, are `centre`. Tiles of 12 px by the presence of a point were tried: blank ones carried both labels.
As the paper caps tiles per slide, twenty of each class are drawn from each image, which also balances the classes.
The counts were computed from the 31,003 points with that rule; they are not published.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tile_table import TileTable
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import CentrePixel
from histozoo.tasks.base import Task

TASK = Task(
    name="adipocyte_gtex_cells",
    kind="multiclass",
    folder="adipocyte_gtex_cells",
    classes=("elsewhere", "centre"),
    counts=(4000, 3989),
    organ="subcutaneous fat",
    stain="H&E",
    licence="unknown",
    licence_note="no licence file; the histology images of GTEx are open to view",
    source="https://github.com/ieee8023/countception",
    citation=(
        "J. P. Cohen, G. Boucher, C. A. Glastonbury, H. Z. Lo, Y. Bengio, Count-ception: Counting by Fully Convolutional Redundant "
        "Counting, ICCV Workshops 2017"
    ),
    lineage="gtex",
    preparation=Preparation(
        layout=TileTable(folder="adipocyte_gtex", points="adipocyte", disc_px=3).layout(),
        rule=CentrePixel(px=32, stride=8, kinds={"adipocyte": "centre"}, otherwise="elsewhere"),
        # Another generation of JPEG would blur tiles of a few 8 x 8 blocks.
        format="png",
        cap=20,
        pictures=200,
        parts=("adipocyte_gtex",),
    ),
    traps=(
        "neighbouring tiles overlap by three quarters, within a donor",
        "points are blobs found in a published JPEG annotation, so some cells are missed or joined",
    ),
    notes=(
        "Windows of 1700 px that the authors reduced to 150 px. Groups are donors; donors of GTEx gave other organs too."
    ),
)
