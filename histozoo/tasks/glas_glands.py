"""Whether a tile holds glands (GlaS in its original layout), colon, H&E.

Read: public readers of Grade.csv and the files; the licence is as in the task glas. The counts are this rule's on a copy with unchanged
masks: 151 pictures of 775 x 522 px give 24 tiles each, 14 smaller ones 12. From memory: 0.62005 micrometres per pixel after the authors
rescaled 0.465. The threshold is that of the paper's epithelium task (Mormont et al. 2021: more than 10 %).
"""

from __future__ import annotations

from histozoo.prepare.layouts.glas import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="glas_glands",
    kind="multiclass",
    folder="glas_glands",
    classes=("no_gland", "gland"),
    counts=(679, 3113),
    split_counts={"train": 1_968, "test": 1_824},
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
    split_divides_groups=True,
    traps=(
        "The official split divides patients; use the groups.",
        "CRAG is from the same hospital (Coventry, another scanner); patients may be shared.",
        "Fourteen pictures are smaller than the others; none of them is in test B.",
    ),
    notes="128 px tiles without overlap. Groups are the 16 patients. Both tests (A and B) are the test split.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Presence(px=128, stride=128, kind="gland", threshold=0.1, present="gland", absent="no_gland"),
        pictures=165,
        parts=("warwick_qu_dataset_released_2016_07_08.zip",),
    ),
)
