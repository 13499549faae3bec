"""White blood cell types cropped from the BCCD frames, blood smear."""

from __future__ import annotations

from histozoo.tasks.base import Task
from histozoo.tasks.bccd_frames import frame

TASK = Task(
    name="bccd_wbc",
    kind="multiclass",
    folder="bccd_wbc",
    classes=("eosinophil", "lymphocyte", "monocyte", "neutrophil"),
    counts=(88, 33, 20, 207),
    exclude_classes={
        "basophil": "three cells are one for each part of a split, too few to learn or to score"
    },
    organ="blood",
    stain="Giemsa type",
    licence="unknown",
    licence_note="the photographs are under MIT; the repository of the crops has no licence file of its own",
    source="https://github.com/Shenggan/BCCD_Dataset",
    citation="Shenggan, BCCD Dataset, after cosmicad/dataset and akshaylamba/all_CELL_data; types by P. Mooney, crops by apple2373/BCCD",
    lineage="bccd",
    group_rule=frame,
    traps=(
        "Shares its frames with bccd_cells.",
        "Very unbalanced.",
        "One cell (frames 206 and 278) is labelled lymphocyte once and monocyte once.",
        "Patients are not known.",
    ),
    notes="Crops of different size. Groups are frames, those that show the same cells joined.",
)
