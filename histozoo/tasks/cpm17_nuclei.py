"""Whether a tile holds nuclei (CPM17), brain, head and neck, and lung, H&E.

Read: torch-em and vqdang/hover_net (folders, key of the maps). From memory: 32 pictures in each split. No licence was found. Pictures
differ in size, so the number of tiles is not declared. The threshold is that of the paper's nuclei task (Mormont et al. 2021: more than 5
%), on smaller tiles.
"""

from __future__ import annotations

from histozoo.prepare.layouts.cpm17 import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="cpm17_nuclei",
    kind="multiclass",
    folder="cpm17_nuclei",
    classes=("no_nuclei", "nuclei"),
    organ="brain, head and neck, lung",
    stain="H&E",
    licence="unknown",
    licence_note="none found",
    source="https://drive.google.com/drive/folders/1sJ4nmkif6j4s2FOGj8j6i_Ye7z9w0TfA (the copy that HoVer-Net's authors name)",
    citation=(
        "Q. D. Vu et al., Methods for segmentation and classification of digital microscopy tissue images, Front. Bioeng. Biotechnol. 7"
        " (2019) 53"
    ),
    lineage="cpm17",
    traps=(
        "20x and 40x are mixed, and no file says which: nuclei differ in size by two.",
        "Slides are of TCGA: MoNuSeg, PanNuke, OCELOT and TCGA-UT may share patients.",
        "Names do not tell slides, so both splits may hold one patient.",
    ),
    notes="64 px tiles without overlap. Groups are pictures.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Presence(px=64, stride=64, kind="nucleus", threshold=0.05, present="nuclei", absent="no_nuclei"),
        pictures=64,
        parts=("cpm17.zip",),
    ),
)
