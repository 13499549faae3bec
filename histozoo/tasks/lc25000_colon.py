"""Benign colonic tissue and colon adenocarcinoma, H&E."""

from __future__ import annotations

from histozoo.tasks.base import Task

TASK = Task(
    name="lc25000_colon",
    kind="multiclass",
    folder="lc25000_colon",
    classes=("adenocarcinoma", "benign"),
    counts=(471, 469),
    organ="colon",
    stain="H&E",
    licence="unknown",
    licence_note='no formal licence: "freely available to AI researchers"',
    source="https://github.com/tampapath/lung_colon_image_set",
    citation=(
        "A. A. Borkowski et al., Lung and Colon Cancer Histopathological Image Dataset (LC25000), arXiv:1912.12142 (2019); "
        "groups: G. Batchkala et al., DEMI@MICCAI 2024 (LC25000-clean)"
    ),
    lineage="lc25000",
    traps=(
        (
            "The images are flips and rotations of 500 photographs: split by group, or the copies of one photograph face "
            "each other."
        ),
        "Patients are not known, so groups may divide one.",
    ),
    notes="At most two copies of each photograph; groups are the photographs. 224 x 224 px, resized by an intermediate source.",
)
