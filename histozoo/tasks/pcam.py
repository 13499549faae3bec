"""PatchCamelyon: tumour in the middle of a lymph node tile, H&E.

Read: the authors' README (262,144 / 32,768 / 32,768 tiles, half of each split positive, 10x, CC0); kaiko-ai/eva (files); the overview
of the Kaggle competition made from it (duplicates). The README says `50/50` and gives no class counts, so none are declared: tiles are
drawn by chance, and the halves need not be exact. From memory: micrometres per pixel (level 2 of Camelyon16, 4 x 0.243).
"""

from __future__ import annotations

from histozoo.prepare.layouts.pcam import CLASSES, LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="pcam",
    kind="multiclass",
    folder="pcam",
    classes=CLASSES,
    total=327_680,
    split_counts={"train": 262_144, "val": 32_768, "test": 32_768},
    organ="lymph node",
    stain="H&E",
    mpp=0.972,
    licence="CC0-1.0",
    licence_note="read in the README of the authors' repository",
    licence_checked=True,
    source="https://doi.org/10.5281/zenodo.2546921",
    hub="1aurent/PatchCamelyon",
    citation=(
        "B. S. Veeling et al., Rotation equivariant CNNs for digital pathology, MICCAI 2018, doi:10.1007/978-3-030-00934-2_24; "
        "B. Ehteshami Bejnordi et al., JAMA 318 (2017) 2199-2210"
    ),
    lineage="camelyon",
    traps=(
        "Tiles were drawn by chance and some twice; the competition set on Kaggle is the same without duplicates.",
        "The label speaks of the central 32 x 32 px only; tumour around them does not count.",
        "Slides are those of Camelyon16: never train on one and test on the other; Camelyon17 comes from the same project.",
        (
            "One public download script finds, by checksum, that the valid and test files on Zenodo have each other's names. Not "
            "checked by us."
        ),
    ),
    notes="96 x 96 px out of HDF5. Groups are slides (column wsi of the tables beside the arrays), so the tables are needed.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Whole(),
        pictures=327_680,
        parts=tuple(
            f"camelyonpatch_level_2_split_{split}_{part}"
            for split in ("train", "valid", "test")
            for part in ("x.h5.gz", "y.h5.gz", "meta.csv")
        ),
    ),
)
