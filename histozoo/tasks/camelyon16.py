"""Metastasis in the tile or not (CAMELYON16), sentinel lymph nodes, H&E.

Read in Mormont 2020 (tables of tasks and of segmentation sets): 292,226 tiles of 768 px stored at 384, no overlap, more than 10 % of the
area tumour, most of the background left out, at most 1,000 tiles per class and slide, 271 slides (237,753 train, 27,950 val, 26,523 test
tiles; 221, 26 and 24 slides), so the training slides only. How the background was found is not said: here a tile needs a tenth of tissue,
and the total is not the paper's.

Read in public repositories: folders, names, ASAP files with the groups Tumor, _0 and _1 for tumour and _2 for what lies inside a tumour
and is none, 270 training slides, level 0 at about 0.25 micrometres per pixel, 13 tumour slides that are not annotated throughout,
normal_086 left out as not valid. Read at the site of CAMELYON17: CC0, Radboud UMC and UMC Utrecht. From memory and not verified:
normal_086 is tumor_111 under an earlier name, which makes the paper's 271 of 270; the pixel size is 0.243 for one scanner and 0.226 for
the other.
"""

from __future__ import annotations

from histozoo.prepare.layouts.camelyon16 import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="camelyon16",
    kind="multiclass",
    folder="camelyon16",
    classes=("normal", "tumour"),
    not_reproduced=(
        292_226,
        "the paper does not say how it found the background; here a tile needs a tenth of tissue. The number of slides is compared",
    ),
    organ="lymph node",
    stain="H&E",
    licence="CC0-1.0",
    licence_note="read at the site of CAMELYON17, and in the README of PCam's authors, who follow the licence of CAMELYON16",
    licence_checked=True,
    source="https://doi.org/10.5524/100439",
    citation=(
        "B. Ehteshami Bejnordi et al., Diagnostic assessment of deep learning algorithms for detection of lymph node metastases in women "
        "with breast cancer, JAMA 318 (2017) 2199-2210; G. Litjens et al., GigaScience 7 (2018) giy065"
    ),
    lineage="camelyon",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Presence(
            px=768,
            stride=768,
            kind="tumour",
            threshold=0.10,
            present="tumour",
            absent="normal",
            least_tissue=0.10,
        ),
        format="jpeg",
        resize_px=384,
        cap=1000,
        pictures=270,
        parts=("training/normal/*.tif", "training/tumor/*.tif", "training/lesion_annotations.zip"),
    ),
    notes=(
        "Level 0 of the training slides of two hospitals, about 0.25 micrometres per pixel and 0.5 as stored; the two scanners "
        "differ, so mpp is "
        "None. Groups are slides: patients are not published. The test slides are left out, as in the paper."
    ),
    traps=(
        "PCam is cut from these slides and CAMELYON17 takes them over as training data: one lineage.",
        "Thirteen tumour slides are not annotated throughout (tumor_015, 018, 020, 029, 033, 044, 046, 051, 054, 055, 079, 092, "
        "095): their "
        "normal tiles may hold tumour.",
        "normal_086 is not valid and is left out.",
        "Tumour tiles near the 10 % border are mostly lymph node.",
    ),
)
