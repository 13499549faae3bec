"""Nuclei or none in tiles of lower-grade gliomas of TCGA, H&E: human contours turned into classes.

The rule is that of "Janowczyk1" in Mormont, Geurts, Maree (IEEE JBHI 25(2), 2021): present where nuclei cover more than a twentieth of the
tile, each tile half a tile from the next. Its tiles of 250 px would hold nuclei nearly everywhere here, where they cover 23 % of the
image: 48 px is about twice a nucleus (seen in the masks) and leaves a seventh of the tiles without one, in all five patients.
The counts were computed from the 36 masks with that rule; they are not published.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tile_table import TileTable
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="lgg36_nuclei",
    kind="multiclass",
    folder="lgg36_nuclei",
    classes=("no_nuclei", "nuclei"),
    counts=(2043, 12357),
    organ="brain",
    stain="H&E",
    licence="unknown",
    licence_note="no licence with the contours; the images are open ones of TCGA",
    source="https://github.com/pengyzhang/cell_seg_matlab",
    citation=(
        "P. Zhang, F. Wang, G. Teodoro, Y. Liang, D. J. Brat, J. Kong, Automated level set segmentation of histopathologic cells with "
        "sparse shape prior support and dynamic occlusion constraint, ISBI 2017, 718-722"
    ),
    lineage="tcga",
    preparation=Preparation(
        layout=TileTable(folder="nuclei_tcga_lgg36", instances="nucleus").layout(),
        rule=Presence(px=48, stride=24, kind="nucleus", threshold=0.05, present="nuclei", absent="no_nuclei"),
        format="jpeg",
        pictures=36,
        parts=("nuclei_tcga_lgg36",),
    ),
    traps=(
        "five patients: validation and test are one each",
        "colours were normalised by the authors",
        "cases of TCGA: other sets made of TCGA slides may hold them",
    ),
    notes=(
        "Contours of shapes under 8 px were left out when the masks were drawn. Groups are TCGA cases. The scale of the images is not "
        "documented."
    ),
)
