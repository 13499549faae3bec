"""The organ of a tile, nineteen of them (PanNuke), H&E.

Read: the README inside the archives and torch-em (arrays, channels), CellViT (the words), reports of 2,656, 2,523 and 2,722 tiles per
fold. From memory: the counts per tissue, which add up to 7,901.
"""

from __future__ import annotations

from histozoo.prepare.layouts.pannuke import TISSUE_LAYOUT, TISSUES
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="pannuke_tissue",
    kind="multiclass",
    folder="pannuke_tissue",
    classes=TISSUES,
    counts=(437, 420, 146, 2351, 293, 1440, 424, 384, 134, 224, 184, 146, 195, 182, 187, 146, 196, 226, 186),
    split_counts={"train": 2_656, "val": 2_523, "test": 2_722},
    organ="nineteen organs",
    stain="H&E",
    mpp=0.25,
    licence="CC-BY-NC-SA-4.0",
    licence_note="read in the README inside the archives",
    licence_checked=True,
    source="https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke",
    citation=(
        "J. Gamper et al., PanNuke: an open pan-cancer histology dataset for nuclei instance segmentation and classification, ECDP 2019; "
        "J. Gamper et al., PanNuke dataset extension, insights and baselines, arXiv:2003.10778 (2020)"
    ),
    lineage="pannuke",
    traps=(
        "Slides are mostly of TCGA: MoNuSeg, CPM17, OCELOT and TCGA-UT may share patients, and no file says which.",
        "Patients and slides are not named; whether the folds divide slides is not stated where we looked.",
        "Organs came from different sources (from memory), so colour and sharpness may tell some of them.",
    ),
    notes="256 x 256 px at 40x. Fold 1 trains, fold 2 validates, fold 3 tests: the first of the three official rounds. Groups are tiles.",
    preparation=Preparation(
        layout=TISSUE_LAYOUT, rule=Whole(), pictures=7_901, parts=("fold_1.zip", "fold_2.zip", "fold_3.zip")
    ),
)
