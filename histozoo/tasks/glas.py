"""Benign and malignant colon glands (GlaS), H&E, images cut into a grid."""

from __future__ import annotations

from histozoo.tasks.base import Task

TASK = Task(
    name="glas",
    kind="multiclass",
    folder="glas",
    classes=("benign", "malignant"),
    counts=(74, 91),
    organ="colon",
    stain="H&E",
    mpp=0.62005,
    licence="research use only",
    licence_note="of the challenge page, as it is quoted; copies elsewhere name other licences",
    source="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/",
    citation=(
        "K. Sirinukunwattana et al., Gland segmentation in colon histology images: The GlaS challenge contest, "
        "Medical Image Analysis 35 (2017) 489-502"
    ),
    lineage="glas",
    cut_px=258,
    split_divides_groups=True,
    traps=(
        "The official split divides patients and is not used.",
        "There are 16 patients only.",
    ),
    notes=(
        "775 x 522 px at 0.62005 micrometres per pixel (from memory of the challenge paper): six tiles of 258 px; smaller "
        "images give two. Groups are patients."
    ),
)
