"""Mitosis in the tile or not (Janowczyk's use case 5, which is the AMIDA13 training set), breast cancer, H&E.

Read in Mormont 2020 (tables of tasks and of detection sets): 24,870 tiles of 250 px from 12 patients, ten shifted tiles per mitosis,
tiles without one from an exhaustive grid. The paper says that the grid overlaps and not how much; names of the authors' own tiles that a
public repository lists lie at multiples of 250 px, and 311 images of 2000 x 2000 px x 64 tiles + 10 x 550 - 24,870 = 534 tiles left out,
which 550 mitoses explain: so the stride here is 250. The shifts are drawn at random, so the total is not reproduced exactly.

Read in the tutorial's own code (choosehappy/public): `01_01.tif`, the ground truth as a mask `01_01_pc.png`, the patient in the first two
digits, no mitosis in patient 10. From memory and not verified: 311 images of 2000 x 2000 px, 550 mitoses, 40x at 0.25 micrometres per
pixel, and that it is the AMIDA13 training set; the archive was not seen. The licence was not found.
"""

from __future__ import annotations

from histozoo.prepare.layouts.janowczyk_mitosis import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Around
from histozoo.tasks.base import Task

TASK = Task(
    name="janowczyk5_mitosis",
    kind="multiclass",
    folder="janowczyk5_mitosis",
    classes=("nothing", "mitosis"),
    not_reproduced=(
        24_870,
        (
            "which tiles of the grid are left out depends on how mitoses are read from the masks, which the paper does not say. The number "
            "of images was not found, so nothing is compared"
        ),
    ),
    organ="breast",
    stain="H&E",
    mpp=0.25,
    licence="unknown",
    licence_note="none was found for the images",
    source="https://andrewjanowczyk.com/use-case-5-mitosis-detection/",
    citation=(
        "A. Janowczyk, A. Madabhushi, Deep learning for digital pathology image analysis: a comprehensive tutorial with selected use "
        "cases, J. Pathol. Inform. 7 (2016) 29; M. Veta et al., Assessment of algorithms for mitosis detection in breast cancer "
        "histopathology images, Medical Image Analysis 20 (2015) 237-248"
    ),
    lineage="amida13",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Around(px=250, shifts=10, kinds={"mitosis": "mitosis"}, nothing="nothing", stride=250),
        parts=("the images and masks of use case 5",),
    ),
    notes="40x, 0.25 micrometres per pixel (from memory), 2000 x 2000 px. Groups are patients: the first two digits of a name.",
    traps=(
        "These are patients 01 to 12 of tupac16_mitosis: one lineage, leave both out together.",
        "Patient 10 has no mitosis.",
        "A mask does not number its mitoses: two that touch count as one.",
    ),
)
