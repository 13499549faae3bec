"""More than 5 % nuclei in the tile or not (Janowczyk's use case 1), breast cancer, H&E.

Read in Mormont 2020 (tables of tasks and of segmentation sets): 31,725 tiles of 250 px, 125 px apart, more than 5 % of the area nuclei;
141 images of 2000 x 2000 px give 225 each, 137 patients. Read in the tutorial's own code (choosehappy/public):
`12750_500_f00003_original.tif` with `12750_500_f00003_mask.png`, the patient in front of the first underscore, only images with a mask
used. Read in a public loader (torch_em): the archive's address, both files side by side, and that the nuclei are annotated sparsely.
Class counts were not found. From memory and not verified: 40x, about 0.25 micrometres per pixel, oestrogen-receptor positive tumours. The
licence was not found.
"""

from __future__ import annotations

from histozoo.prepare.layouts.janowczyk import NUCLEI
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="janowczyk1_nuclei",
    kind="multiclass",
    folder="janowczyk1_nuclei",
    classes=("absent", "present"),
    total=31725,
    organ="breast",
    stain="H&E",
    licence="unknown",
    licence_note="none was found for the images",
    source="https://andrewjanowczyk.com/wp-static/nuclei.tgz",
    citation=(
        "A. Janowczyk, A. Madabhushi, Deep learning for digital pathology image analysis: a comprehensive tutorial with selected use "
        "cases, J. Pathol. Inform. 7 (2016) 29"
    ),
    lineage="janowczyk_breast",
    preparation=Preparation(
        layout=NUCLEI,
        rule=Presence(px=250, stride=125, kind="nuclei", threshold=0.05, present="present", absent="absent"),
        pictures=141,
        parts=("nuclei.tgz",),
    ),
    notes="40x, 2000 x 2000 px. Groups are patients, by the number in front of the first underscore.",
    traps=(
        "Only some of each image's nuclei are annotated, so many absent tiles are full of nuclei: the label says where somebody drew.",
        "Tiles overlap by half: split by group, never by tile.",
        "Same breast cancers as use cases 2 and 6, as far as the patient numbers tell: 8914 is in use cases 1 and 6. One lineage.",
    ),
)
