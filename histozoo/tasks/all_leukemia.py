"""Acute lymphoblastic leukaemia subtypes and haematogones, blood smear."""

from __future__ import annotations

from histozoo.tasks.base import Task, blocks

TASK = Task(
    name="all_leukemia",
    kind="multiclass",
    folder="all_leukemia",
    classes=("Benign", "Early", "Pre", "Pro"),
    counts=(210, 210, 210, 206),
    organ="blood",
    stain="blood smear (stain not stated)",
    licence="unknown",
    source="https://doi.org/10.34740/KAGGLE/DSV/2175623",
    citation=(
        "M. Aria et al., Acute Lymphoblastic Leukemia (ALL) image dataset, Kaggle 2021; M. Ghaderzadeh et al., A fast and efficient CNN "
        "model for B-ALL diagnosis and its subtypes classification using peripheral blood smear images, "
        "Int. J. Intelligent Systems 37 (2022) 5113-5133"
    ),
    lineage="all_leukemia",
    # 3256 images of 89 patients, about 37 each; neighbours look like one smear.
    group_rule=blocks(r"WBC-(?:Malignant-)?(\w+)-(\d+)\.jpg$", 40),
    traps=(
        "Tint and focus differ by class, like acquisition batches: high accuracy says little.",
        "The originals have a scale bar in the lower right corner that differs between classes; it was cut away here.",
        "Patients are not known, so groups may divide one.",
    ),
    notes="Groups are blocks of forty consecutive numbers within a class, about one patient long.",
)
