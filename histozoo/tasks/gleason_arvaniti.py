"""Gleason patterns on prostate tissue microarrays (Arvaniti et al.), H&E.

Read: eiriniar/gleason_CNN (names, palette, cohorts, the rule: 750 px every 375 px, one grade in the middle third), kaiko-ai/eva (0.23
micrometres per pixel, CC0, 641 and 245 patients). The tiles are more than there, because tiles that are mostly white stay; no counts are
declared.
"""

from __future__ import annotations

from histozoo.prepare.layouts.gleason_arvaniti import LAYOUT, VALUES, OneGrade
from histozoo.prepare.plan import Preparation
from histozoo.tasks.base import Task

TASK = Task(
    name="gleason_arvaniti",
    kind="multiclass",
    folder="gleason_arvaniti",
    classes=tuple(VALUES.values()),
    organ="prostate",
    stain="H&E",
    mpp=0.23,
    licence="CC0-1.0",
    licence_note="as kaiko-ai/eva states",
    source="https://doi.org/10.7910/DVN/OCYCMP",
    citation=(
        "E. Arvaniti et al., Automated Gleason grading of prostate cancer tissue microarrays via deep learning, Scientific Reports "
        "8 (2018) "
        "12054"
    ),
    lineage="gleason_arvaniti",
    traps=(
        "Tiles overlap their neighbours by half: only whole spots may be divided.",
        "Benign spots are labelled by a mask of tissue, cancer by hand-drawn outlines: background may tell them apart.",
        "The two pathologists of the test cohort disagree; the first one's masks are read.",
    ),
    notes="750 x 750 px tiles of JPEG spots. Groups are spots, one per patient; ZT76 is validation and ZT80 test, as the authors have it.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=OneGrade(px=750, stride=375, kinds={word: word for word in VALUES.values()}),
        format="jpeg",
        parts=(
            *(f"ZT111_4_{block}.tar.gz" for block in "ABC"),
            *(f"ZT199_1_{block}.tar.gz" for block in "AB"),
            *(f"ZT204_6_{block}.tar.gz" for block in "AB"),
            *(f"ZT76_39_{block}.tar.gz" for block in "AB"),
            *(f"ZT80_38_{block}.tar.gz" for block in "ABC"),
            "Gleason_masks_train.tar.gz",
            "Gleason_masks_test_pathologist1.tar.gz",
        ),
    ),
)
