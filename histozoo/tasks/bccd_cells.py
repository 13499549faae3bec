"""Red cells, white cells and platelets cropped from blood smear frames."""

from __future__ import annotations

from histozoo.tasks.base import Task
from histozoo.tasks.bccd_frames import frame

TASK = Task(
    name="bccd_cells",
    kind="multiclass",
    folder="bccd_cells",
    classes=("Platelets", "RBC", "WBC"),
    counts=(361, 698, 372),
    organ="blood",
    stain="Giemsa type",
    licence="MIT",
    licence_note="read in the repository's LICENSE",
    licence_checked=True,
    source="https://github.com/Shenggan/BCCD_Dataset",
    citation="Shenggan, BCCD Dataset, after cosmicad/dataset and akshaylamba/all_CELL_data",
    lineage="bccd",
    group_rule=frame,
    centre_px=96,
    traps=(
        (
            "White cells were cropped larger than the others: only the central 96 px are used, so that size does not tell "
            "the class."
        ),
        "Shares its frames with bccd_wbc.",
        "Patients are not known; crops of one frame may overlap.",
    ),
    notes="Groups are frames, those that show the same cells joined.",
)
