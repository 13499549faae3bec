"""Tumour in the middle of a lymph node tile, five hospitals (Camelyon17-WILDS), H&E.

Read: p-lambda/wilds (loader and preprocessing: files, columns, splits by hospital, CC0); reports of 302,436 training, 34,904 validation
and 85,054 test tiles. From memory: 455,954 tiles in all, which leaves the 33,560 of the validation within the training hospitals.
"""

from __future__ import annotations

from histozoo.prepare.layouts.wilds_camelyon17 import CLASSES, LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="wilds_camelyon17",
    kind="multiclass",
    folder="wilds_camelyon17",
    classes=CLASSES,
    total=455_954,
    split_counts={"train": 302_436, "val": 34_904, "test": 85_054},
    organ="lymph node",
    stain="H&E",
    licence="CC0-1.0",
    licence_note="read in the authors' loader",
    licence_checked=True,
    source="https://wilds.stanford.edu/datasets/#camelyon17",
    citation=(
        "P. W. Koh et al., WILDS: a benchmark of in-the-wild distribution shifts, ICML 2021; P. Bandi et al., From detection of individual "
        "metastases to classification of lymph node status at the patient level, IEEE Trans. Med. Imaging 38 (2019) 550-560"
    ),
    lineage="camelyon",
    traps=(
        "Hospitals differ in stain; a result within the training hospitals says little of the others.",
        "The validation tiles of the training hospitals come from the training slides; they are in no split here.",
        "The label speaks of the central 32 x 32 px only.",
        "Camelyon16 and PCam come from two of the five hospitals of the same project.",
    ),
    notes=(
        "96 x 96 px PNG at about 10x. Hospital 1 validates, hospital 2 tests. Groups are patients, stricter than the slides WILDS "
        "scores by."
    ),
    preparation=Preparation(
        layout=LAYOUT,
        rule=Whole(),
        format="keep",
        pictures=455_954,
        parts=("camelyon17_v1.0 (archive of WILDS)",),
    ),
)
