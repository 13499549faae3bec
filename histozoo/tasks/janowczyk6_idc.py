"""Invasive ductal carcinoma in the tile or not (Janowczyk's use case 6), breast, H&E, tiles of 50 px.

Read in Mormont 2020 (table of tasks): 277,524 tiles of 279 patients, as they are (224,822 train, 31,934 val, 20,768 test; by patient).
Read in public repositories and a Hub card: 162 slides scanned at 40x; 198,738 tiles without and 78,786 with carcinoma; names
`10253_idx5_x1351_y1101_class0.png` in `10253/0/`; the tutorial author's archive, and that the Kaggle copy holds every tile twice, the
second time below `IDC_regular_ps50_idx5`. From memory and not verified: tiles were cut at 2.5x of the 40x scans, about 4 micrometres per
pixel, and some at the edges are smaller than 50 px. The Kaggle copy says CC0; whether its uploader could say so is not known.
"""

from __future__ import annotations

from histozoo.prepare.layouts.janowczyk_idc import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="janowczyk6_idc",
    kind="multiclass",
    folder="janowczyk6_idc",
    classes=("absent", "present"),
    counts=(198738, 78786),
    total=277524,
    organ="breast",
    stain="H&E",
    licence="unknown",
    licence_note="a copy by somebody else says CC0, the authors say nothing",
    source="https://andrewjanowczyk.com/wp-static/IDC_regular_ps50_idx5.zip",
    citation=(
        "A. Cruz-Roa et al., Automatic detection of invasive ductal carcinoma in whole slide images with convolutional neural networks, "
        "SPIE Medical Imaging 9041 (2014) 904103; A. Janowczyk, A. Madabhushi, J. Pathol. Inform. 7 (2016) 29"
    ),
    lineage="janowczyk_breast",
    preparation=Preparation(
        layout=LAYOUT, rule=Whole(), format="keep", pictures=277524, parts=("IDC_regular_ps50_idx5.zip",)
    ),
    notes=(
        "50 x 50 px, seen from far away: a tile is about 0.2 mm wide. Groups are the numbers in front of `_idx5`, which the paper "
        "counts as "
        "279 patients. The Hub set dbzadnen/breast-histopathology-images is somebody else's copy of 277,000 of them, split at "
        "random, without patients."
    ),
    traps=(
        "The Kaggle copy holds every tile twice; the second copy is left out here.",
        "162 slides are described and 279 numbers are found: what a number stands for is not documented.",
        "Same breast cancers as use cases 1 and 2, as far as the patient numbers tell: 8914 is in use cases 1 and 6. One lineage.",
        "Some tiles are smaller than 50 px.",
    ),
)
