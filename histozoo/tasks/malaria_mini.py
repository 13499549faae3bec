"""Parasitised and uninfected red cells, twenty images each, thin blood smear."""

from __future__ import annotations

from histozoo.data.rows import Cells
from histozoo.tasks.base import Task


def _patient(cells: Cells) -> str:
    # Some names carry no patient: those of one photograph, which the name does carry, stay together.
    return cells["group"] or cells["file"].split("_cell_")[0]


TASK = Task(
    name="malaria_mini",
    kind="multiclass",
    folder="malaria_mini",
    classes=("Parasitized", "Uninfected"),
    counts=(20, 20),
    organ="blood",
    stain="Giemsa",
    licence="unknown",
    licence_note="made by the US National Library of Medicine; usually given as public domain, which is not stated",
    source="https://lhncbc.nlm.nih.gov/LHC-research/LHC-projects/image-processing/malaria-datasheet.html",
    citation="S. Rajaraman et al., Pre-trained convolutional neural networks as feature extractors, PeerJ 6 (2018) e4568",
    lineage="nih_malaria",
    group_rule=_patient,
    traps=("Cells are cut out on black: their outline is in every image.",),
    notes="For smoke tests. Groups are patients or slides.",
)
