"""Hyperplastic polyps and sessile serrated adenomas of the colon (MHIST), H&E.

Read: kaiko-ai/eva (files, columns, splits of 2,175 and 977) and public readers (2,162 HP and 990 SSA). kaiko-ai/eva
calls the resolution 40x and our memory of the paper 8x, so no micrometres per pixel are declared.
"""

from __future__ import annotations

from histozoo.prepare.layouts.mhist import CLASSES, LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="mhist",
    kind="multiclass",
    folder="mhist",
    classes=CLASSES,
    counts=(2162, 990),
    split_counts={"train": 2_175, "test": 977},
    organ="colon",
    stain="H&E",
    licence="unknown",
    licence_note="Dataset Research Use Agreement of Dartmouth-Hitchcock: on request, for research, not for passing on",
    source="https://bmirds.github.io/MHIST",
    citation="J. Wei et al., A petri dish for histopathology image analysis, AIME 2021, arXiv:2101.12355",
    lineage="mhist",
    traps=(
        "Patients and slides are not named; one may be on both sides of any split but the official one, and perhaps of that too.",
        "Labels are the majority of seven pathologists; about the hard images they disagree by 4 to 3.",
    ),
    notes="224 x 224 px PNG. Groups are images.",
    preparation=Preparation(
        layout=LAYOUT, rule=Whole(), format="keep", pictures=3_152, parts=("images.zip", "annotations.csv")
    ),
)
