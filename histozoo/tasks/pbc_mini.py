"""Eight normal blood cell types, ten images each, blood smear."""

from __future__ import annotations

from histozoo.tasks.base import Task

TASK = Task(
    name="pbc_mini",
    kind="multiclass",
    folder="pbc_mini",
    classes=(
        "basophil",
        "eosinophil",
        "erythroblast",
        "ig",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    counts=(10,) * 8,
    organ="blood",
    stain="May Gruenwald-Giemsa",
    licence="CC-BY-4.0",
    licence_note="from memory of the Mendeley record",
    source="https://doi.org/10.17632/snkd93bnjr.1",
    citation=(
        "A. Acevedo et al., A dataset of microscopic peripheral blood cell images for development of automatic recognition systems, "
        "Data in Brief 30 (2020) 105474"
    ),
    lineage="pbc",
    group_column="file",
    traps=("Patients are not known: each image is a group of its own.",),
    notes="For few-shot use.",
)
