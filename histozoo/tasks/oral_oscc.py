"""Oral squamous cell carcinoma against normal oral mucosa, H&E."""

from __future__ import annotations

from histozoo.tasks.base import Task, blocks

TASK = Task(
    name="oral_oscc",
    kind="multiclass",
    folder="oral_oscc",
    classes=("Normal", "OSCC"),
    counts=(273, 600),
    organ="oral mucosa",
    stain="H&E",
    licence="CC-BY-4.0",
    licence_note="from memory of the article; a copy says CC0-1.0",
    source="https://doi.org/10.17632/ftmp4cvtmb.1",
    citation="T. Y. Rahman et al., Histopathological imaging database for oral cancer analysis, Data in Brief 29 (2020) 105114",
    lineage="oral_oscc",
    # Patients are not in the names and consecutive numbers may be one patient: 1224 images of 230 patients, about 5 each.
    group_rule=blocks(r"(\w+_\d+x)_(\d+)\.jpg$", 10),
    traps=(
        "Patients are not known, so groups may divide one.",
        "The magnifications are not equally frequent in the classes: score 100x and 400x apart.",
        "32 images were found under both labels and taken out; others like them may be left.",
        "The copy on Kaggle holds augmented images beside the originals; they were left out.",
    ),
    notes=(
        "Resized to 224 x 224 px with the aspect ratio squeezed, at 100x and 400x mixed, so the scale is not known. Groups "
        "are blocks of ten consecutive numbers within class and magnification."
    ),
)
