"""Gland or none in tiles of GlaS, colon, H&E: the masks of the challenge turned into classes.

The rule is that of "Janowczyk2" in Mormont, Geurts, Maree (IEEE JBHI 25(2), 2021): present where more than a tenth of the tile is marked,
each tile half a tile from the next. Its tiles of 200 px at 20x, about 0.5 micrometres per pixel, are 100 micrometres wide; at the
0.62 micrometres of these images that is 160 px. The counts were computed from the 165 masks with that rule; they are not published.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tile_table import TileTable
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="glas_presence",
    kind="multiclass",
    folder="glas_presence",
    classes=("no_gland", "gland"),
    counts=(879, 5497),
    organ="colon",
    stain="H&E",
    mpp=0.62005,
    licence="research use only",
    licence_note="of the challenge page, as it is quoted; copies elsewhere name other licences",
    source="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/",
    citation=(
        "K. Sirinukunwattana et al., Gland segmentation in colon histology images: The GlaS challenge contest, "
        "Medical Image Analysis 35 (2017) 489-502"
    ),
    lineage="glas",
    preparation=Preparation(
        layout=TileTable(folder="glas", instances="gland").layout(),
        rule=Presence(px=160, stride=80, kind="gland", threshold=0.1, present="gland", absent="no_gland"),
        format="jpeg",
        pictures=165,
        parts=("glas",),
    ),
    split_divides_groups=True,
    traps=(
        "five of the 16 patients have no tile without a gland",
        "most tiles without a gland come from benign images, whose glands lie apart",
        "the official split divides patients",
    ),
    notes=(
        "Tiles are 100 micrometres wide, at 0.62005 micrometres per pixel (from memory of the challenge paper). Groups are patients. "
        "Neighbouring tiles overlap by half, within a patient."
    ),
)
