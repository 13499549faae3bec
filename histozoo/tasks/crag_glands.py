"""Whether a tile holds glands (CRAG), colon, H&E.

Read: the README of version 2 in a public copy (213 pictures, 173 and 40, 20x). No licence was found in it. Pictures differ in size, so
the number of tiles is not declared. The threshold is that of the paper's epithelium task (Mormont et al. 2021: more than 10 %).
"""

from __future__ import annotations

from histozoo.prepare.layouts.crag import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="crag_glands",
    kind="multiclass",
    folder="crag_glands",
    classes=("no_gland", "gland"),
    organ="colon",
    stain="H&E",
    licence="unknown",
    licence_note="the README asks for a citation and names no licence",
    source="https://warwick.ac.uk/fac/cross_fac/tia/data/mildnet/",
    citation=(
        "S. Graham et al., MILD-Net: minimal information loss dilated network for gland instance segmentation in colon histology images, "
        "Medical Image Analysis 52 (2019) 199-211"
    ),
    lineage="crag",
    traps=(
        "213 pictures of 38 slides (a survey of datasets says): a split by picture divides slides, and no file names them.",
        "GlaS is from the same hospital (Coventry); patients may be shared.",
    ),
    notes="128 px tiles without overlap, 20x. Groups are pictures.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Presence(px=128, stride=128, kind="gland", threshold=0.1, present="gland", absent="no_gland"),
        pictures=213,
        parts=("CRAG_v2.zip",),
    ),
)
