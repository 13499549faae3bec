"""Seven lesions of the breast, regions of interest (BRACS), H&E.

Read: Brancati et al. 2022 (abstract: 547 slides, 4,539 regions), kaiko-ai/eva (folders, splits of 3,657, 312 and 570, licence, 0.25
micrometres per pixel), public readers of BRACS.xlsx (columns; patient 67 in two splits). From memory: the class counts, which add up to
4,539.
"""

from __future__ import annotations

from histozoo.prepare.layouts.bracs import FOLDERS, LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="bracs",
    kind="multiclass",
    folder="bracs",
    classes=tuple(FOLDERS.values()),
    counts=(484, 836, 517, 756, 507, 790, 649),
    split_counts={"train": 3_657, "val": 312, "test": 570},
    organ="breast",
    stain="H&E",
    mpp=0.25,
    licence="CC-BY-NC-4.0",
    licence_note="as kaiko-ai/eva states",
    source="https://www.bracs.icar.cnr.it/download/",
    citation="N. Brancati et al., BRACS: a dataset for breast carcinoma subtyping in H&E histology images, Database 2022, baac093",
    lineage="bracs",
    split_divides_groups=True,
    traps=(
        "Regions differ in size, and size differs with the class: invasive carcinoma is drawn large, a normal duct small.",
        "Patient 67 is in two of the official splits (the sources differ on which).",
        "The largest regions may exceed what one picture may have here (8192 x 8192 px in all); they are refused, not shrunk.",
    ),
    notes="PNG of any size at 40x, kept whole. N normal, PB benign, UDH, FEA, ADH, DCIS, IC. Groups are patients, read from BRACS.xlsx.",
    preparation=Preparation(
        layout=LAYOUT, rule=Whole(), format="keep", pictures=4_539, parts=("BRACS_RoI", "BRACS.xlsx")
    ),
)
