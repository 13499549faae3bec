"""Whether a tile holds nuclei (CoNSeP), colon, H&E.

Read: kaiko-ai/eva (folders, 41 pictures of 1,000 x 1,000 px from 16 slides, 27 and 14, 40x, types, licence as it states it). The
threshold is that of the paper's nuclei task (Mormont et al. 2021: more than 5 %), on smaller tiles. The layout also reads the seven types
of nuclei.
"""

from __future__ import annotations

from histozoo.prepare.layouts.consep import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="consep_nuclei",
    kind="multiclass",
    folder="consep_nuclei",
    classes=("no_nuclei", "nuclei"),
    total=41 * 225,
    split_counts={"train": 27 * 225, "test": 14 * 225},
    organ="colon",
    stain="H&E",
    mpp=0.25,
    licence="Apache-2.0",
    licence_note="as kaiko-ai/eva states",
    source="https://warwick.ac.uk/fac/cross_fac/tia/data/hovernet/",
    citation=(
        "S. Graham et al., HoVer-Net: simultaneous segmentation and classification of nuclei in multi-tissue histology images, "
        "Medical Image Analysis 58 (2019) 101563"
    ),
    lineage="consep",
    traps=(
        "41 pictures of 16 patients, whom no file names: a split by picture may divide one.",
        "GlaS and CRAG are from the same hospital (Coventry); Lizard and CoNIC contain CoNSeP's pictures.",
        "The download has been offline for long times; copies on Kaggle are tiled and do not match.",
    ),
    notes="64 px tiles without overlap, 15 x 15 per picture. Groups are pictures.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Presence(px=64, stride=64, kind="nucleus", threshold=0.05, present="nuclei", absent="no_nuclei"),
        pictures=41,
        parts=("consep_dataset.zip",),
    ),
)
