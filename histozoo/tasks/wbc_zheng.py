"""White blood cell types from two sources that look different, blood smear."""

from __future__ import annotations

from histozoo.tasks.base import Task, blocks

TASK = Task(
    name="wbc_zheng",
    kind="multiclass",
    folder="wbc_zheng",
    classes=("eosinophil", "lymphocyte", "monocyte", "neutrophil"),
    counts=(34, 89, 63, 209),
    exclude_classes={"basophil": "four cells are too few to be in three parts of a split"},
    organ="blood",
    stain="rapid haematology reagent (first source), Romanowsky type (second source)",
    licence="unknown",
    licence_note="the repository is under GPL-3.0; rights in the second source's images (CellaVision blog) are unclear",
    source="https://github.com/zxaoyou/segmentation_WBC",
    citation=(
        "X. Zheng, Y. Wang, G. Wang, J. Liu, Fast and robust segmentation of white blood cell images by self-supervised learning, "
        "Micron 107 (2018) 55-71"
    ),
    lineage="wbc_zheng",
    # Long runs of one class say that the numbering follows the acquisition.
    group_rule=blocks(r"(d[12])_(\d+)\.\w+$", 10),
    traps=(
        "Some labels were added by the authors and not double-checked by experts.",
        "The two sources look very different and hold the classes in different shares.",
        "Patients are not known, so groups may divide a smear.",
    ),
    notes="Groups are blocks of ten consecutive numbers within a source.",
)
