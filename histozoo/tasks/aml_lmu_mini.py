"""Fifteen leukocyte types in acute myeloid leukaemia, ten images each, blood smear."""

from __future__ import annotations

from histozoo.tasks.base import Task

TASK = Task(
    name="aml_lmu_mini",
    kind="multiclass",
    folder="aml_lmu_mini",
    classes=(
        "BAS",
        "EBO",
        "EOS",
        "KSC",
        "LYA",
        "LYT",
        "MMZ",
        "MOB",
        "MON",
        "MYB",
        "MYO",
        "NGB",
        "NGS",
        "PMB",
        "PMO",
    ),
    counts=(10,) * 15,
    organ="blood",
    stain="Pappenheim type",
    licence="CC-BY-3.0",
    licence_note="from memory of the collection page",
    source="https://doi.org/10.7937/tcia.2019.36f5o9ld",
    citation=(
        "C. Matek, S. Schwarz, K. Spiekermann, C. Marr, Human-level recognition of blast cells in acute myeloid leukaemia with "
        "convolutional neural networks, Nature Machine Intelligence 1 (2019) 538-544"
    ),
    lineage="aml_lmu",
    group_column="cell",
    traps=(
        "Rare classes hold rotated copies of a cell; they share its group.",
        "Patients are not known.",
    ),
    notes="For few-shot use. Groups are cells.",
)
