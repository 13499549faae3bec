"""Mitosis in the tile or not (the auxiliary mitosis set of TUPAC16), breast cancer, H&E.

Read in Mormont 2020 (tables of tasks and of detection sets): 77,853 tiles of 250 px from 656 images (526, 74 and 56), ten shifted tiles
per mitosis, tiles without one from an exhaustive grid. The overlap of that grid is not said; names of the authors' own tiles that a
public repository lists lie at multiples of 250 px, and `janowczyk5_mitosis`, which is part of this set, is reproduced by 250: so the
stride here is 250. The shifts are drawn at random and 64 x 606 + 484 x 50 + 10 x 1,552 leaves 651 tiles for the mitoses, fewer than
expected: the total is not reproduced.

Read at the challenge site: coordinates are row before column. Read in public repositories: the archives and their folders, patients 01 to
14, 15 to 33 and 34 to 73 in the three parts, AMIDA13 as patients 01 to 23 (12 to train and 11 to test), images of 2000 x 2000 px up to
patient 23 and 5657 x 5657 px after, 73 patients and 656 images; two of them read an image without a CSV file as one without a mitosis.
Read in the abstract of Bertram 2020, which labels the images anew: 1,999 mitoses, 28.80 % more, so 1,552 here. From memory and not
verified: three hospitals, 0.25 micrometres per pixel. The licence was not found.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tupac16_mitosis import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Around
from histozoo.tasks.base import Task

TASK = Task(
    name="tupac16_mitosis",
    kind="multiclass",
    folder="tupac16_mitosis",
    classes=("nothing", "mitosis"),
    not_reproduced=(
        77_853,
        (
            "the paper says neither the step of its grid nor which of its tiles it left out beside a mitosis. The numbers of images and of "
            "mitoses are compared"
        ),
    ),
    objects={"mitosis": 1552},
    organ="breast",
    stain="H&E",
    mpp=0.25,
    licence="unknown",
    licence_note="the terms of the challenge site were not read",
    source="https://tupac.grand-challenge.org/Dataset/",
    citation=(
        "M. Veta et al., Predicting breast tumor proliferation from whole-slide images: the TUPAC16 challenge, Medical Image Analysis 54 "
        "(2019) 111-121"
    ),
    lineage="amida13",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Around(px=250, shifts=10, kinds={"mitosis": "mitosis"}, nothing="nothing", stride=250),
        pictures=656,
        parts=(
            "mitoses_image_data_part_1.zip",
            "mitoses_image_data_part_2.zip",
            "mitoses_image_data_part_3.zip",
            "mitoses_ground_truth.zip",
        ),
    ),
    notes="Groups are patients, by folder. The test images of the challenge have no published annotation and are left out.",
    traps=(
        "Patients 01 to 23 are AMIDA13, and 01 to 12 are janowczyk5_mitosis: one lineage, leave both out together.",
        "The paper splits 656 images and calls them patients; there are 73 patients.",
        "An image without a CSV file has no mitosis; a ground truth that was unpacked in part looks the same.",
        "An alternative set of labels finds 29 % more mitoses in the same images: nothing is not always nothing.",
    ),
)
