"""Whether a tile holds a tumour cell, six organs (OCELOT 2023), H&E.

Read: public readers of version 1.0.1 (files, classes, 1,024 px at 0.2 micrometres per pixel, Zenodo record, CC BY-NC 4.0); reports that
give 400, 137 and 126 pictures per split. The rule is that of Warwick CRC in Mormont et al. 2021: a tile contains the centre of such a
cell or not.
"""

from __future__ import annotations

from histozoo.prepare.layouts.ocelot import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Contains
from histozoo.tasks.base import Task

TASK = Task(
    name="ocelot",
    kind="multiclass",
    folder="ocelot",
    classes=("no_tumour_cell", "tumour_cell"),
    total=663 * 64,
    split_counts={"train": 400 * 64, "val": 137 * 64, "test": 126 * 64},
    organ="bladder, endometrium, head and neck, kidney, prostate, stomach",
    stain="H&E",
    mpp=0.2,
    licence="CC-BY-NC-4.0",
    licence_note="as public readers of the set state",
    source="https://doi.org/10.5281/zenodo.8417503",
    citation="J. Ryu et al., OCELOT: overlapped cell on tissue dataset for histopathology, CVPR 2023, doi:10.1109/CVPR52729.2023.02289",
    lineage="ocelot",
    traps=(
        "Slides are of TCGA: MoNuSeg, PanNuke, CPM17 and TCGA-UT may share patients; metadata.json names the slides.",
        "The set was made because cells are named with their surroundings in sight; a tile alone may not show why.",
        "Slides were scanned at different resolutions and brought to 0.2 micrometres per pixel (from memory).",
    ),
    notes="128 px tiles of 1,024 px pictures, 8 x 8 each. Groups are TCGA patients.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Contains(
            px=128, stride=128, kinds=("tumour_cell",), present="tumour_cell", absent="no_tumour_cell"
        ),
        format="jpeg",
        pictures=663,
        parts=("ocelot2023_v1.0.1.zip",),
    ),
)
