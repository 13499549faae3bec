"""More than 10 % epithelium in the tile or not (Janowczyk's use case 2), breast cancer, H&E.

Read in Mormont 2020 (tables of tasks and of segmentation sets): 3,402 tiles of 200 px, 100 px apart, more than 10 % of the area
epithelium; 42 images of 1000 x 1000 px give 81 each, 42 patients. Read in the tutorial's own code (choosehappy/public): `X.tif` with
`X_mask.png`, the patient in front of the first underscore. Read in a public loader (torch_em): the archive's address, masks in the folder
`masks`, dense annotation. Class counts were not found. From memory and not verified: 20x, about 0.5 micrometres per pixel,
oestrogen-receptor positive tumours. The licence was not found.
"""

from __future__ import annotations

from histozoo.prepare.layouts.janowczyk import EPITHELIUM
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="janowczyk2_epithelium",
    kind="multiclass",
    folder="janowczyk2_epithelium",
    classes=("absent", "present"),
    total=3402,
    organ="breast",
    stain="H&E",
    licence="unknown",
    licence_note="none was found for the images",
    source="https://andrewjanowczyk.com/wp-static/epi.tgz",
    citation=(
        "A. Janowczyk, A. Madabhushi, Deep learning for digital pathology image analysis: a comprehensive tutorial with selected use "
        "cases, J. Pathol. Inform. 7 (2016) 29"
    ),
    lineage="janowczyk_breast",
    preparation=Preparation(
        layout=EPITHELIUM,
        rule=Presence(
            px=200, stride=100, kind="epithelium", threshold=0.10, present="present", absent="absent"
        ),
        pictures=42,
        parts=("epi.tgz",),
    ),
    notes="20x, 1000 x 1000 px. Groups are patients, by the number in front of the first underscore.",
    traps=(
        "Tiles overlap by half: split by group, never by tile.",
        "Same breast cancers as use cases 1 and 6, as far as the patient numbers tell: 8914 is in use cases 1 and 6. One lineage.",
    ),
)
