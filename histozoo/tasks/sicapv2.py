"""Gleason patterns on prostate biopsies (SICAPv2), H&E.

Read: public readers of the set (folders, workbooks and their columns, names, half-overlapping tiles, doubled regions). From memory and not
checked: 12,081 labelled of 18,783 images, the licence, the magnification of 10x.
"""

from __future__ import annotations

from histozoo.prepare.layouts.sicapv2 import LAYOUT, MARKS
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="sicapv2",
    kind="multiclass",
    folder="sicapv2",
    classes=tuple(MARKS.values()),
    organ="prostate",
    stain="H&E",
    licence="CC-BY-4.0",
    licence_note="from memory of the Mendeley record",
    source="https://doi.org/10.17632/9xxm58dvs3.1",
    citation=(
        "J. Silva-Rodriguez et al., Going deeper through the Gleason scoring scale, Computer Methods and Programs in Biomedicine "
        "195 (2020) "
        "105637"
    ),
    lineage="sicapv2",
    traps=(
        "Tiles overlap their neighbours by half: only whole cases may be divided.",
        "Ten regions lie in the set twice under other names (listed by a public script that stitches the slides).",
        "Only images that a workbook lists have a label; about a third have none.",
    ),
    notes="512 x 512 px JPEG at 10x. Groups are cases: the biopsy's number without the letter of its block.",
    preparation=Preparation(layout=LAYOUT, rule=Whole(), format="keep", parts=("SICAPv2.zip",)),
)
