"""Benign colon and adenocarcinoma: LC25000 as published, with its copies grouped, H&E.

Read: Borkowski et al. 2019 (abstract: 5,000 images of each class), the README of GeorgeBatch/LC25000-clean (the list of groups), public
readers (folders). This is all of what the task lc25000_colon takes two copies each of; the same lineage keeps them apart.
"""

from __future__ import annotations

from histozoo.prepare.layouts.lc25000_full import COLON, COLON_LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="lc25000_full_colon",
    kind="multiclass",
    folder="lc25000_full_colon",
    classes=tuple(COLON.values()),
    counts=(5000, 5000),
    organ="colon",
    stain="H&E",
    licence="unknown",
    licence_note='no formal licence: "freely available to AI researchers"; a copy on Kaggle says CC BY-SA 4.0',
    source="https://github.com/tampapath/lung_colon_image_set",
    citation=(
        "A. A. Borkowski et al., Lung and Colon Cancer Histopathological Image Dataset (LC25000), arXiv:1912.12142 (2019); "
        "groups: G. Batchkala et al., DEMI@MICCAI 2024 (LC25000-clean)"
    ),
    lineage="lc25000",
    traps=(
        "Rotations and flips of 500 photographs: a split by image tests on what was trained on. Groups are the photographs.",
        "Patients are not known, so even groups may divide one.",
        "Colour alone tells much: a colour histogram was right in 91 % of a grouped test (a public experiment).",
    ),
    notes="768 x 768 px JPEG. The list lc25000_image_groups.csv (GeorgeBatch/LC25000-clean, folder kaggle) must lie beside the images.",
    preparation=Preparation(
        layout=COLON_LAYOUT,
        rule=Whole(),
        format="keep",
        pictures=10_000,
        parts=("LC25000.zip", "lc25000_image_groups.csv"),
    ),
)
