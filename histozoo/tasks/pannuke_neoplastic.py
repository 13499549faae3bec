"""Whether a tile holds neoplastic nuclei (PanNuke), H&E.

Read: as for pannuke_tissue. The rule is ours: more than 1 % of the tile, which at 0.25 micrometres per pixel are 41 square micrometres,
about one nucleus; slivers at the edge do not make a tile neoplastic.
"""

from __future__ import annotations

from histozoo.prepare.layouts.pannuke import NUCLEI_LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="pannuke_neoplastic",
    kind="multiclass",
    folder="pannuke_neoplastic",
    classes=("no_neoplastic_nuclei", "neoplastic_nuclei"),
    total=7_901,
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
        "Masks were made half by machine and hold errors (from memory of the papers).",
        "The share of neoplastic tiles differs between organs, so the organ tells a part of the label.",
    ),
    notes="256 x 256 px at 40x. Fold 1 trains, fold 2 validates, fold 3 tests. Groups are tiles; patients are not named.",
    preparation=Preparation(
        layout=NUCLEI_LAYOUT,
        rule=Presence(
            px=256,
            stride=256,
            kind="neoplastic",
            threshold=0.01,
            present="neoplastic_nuclei",
            absent="no_neoplastic_nuclei",
        ),
        pictures=7_901,
        parts=("fold_1.zip", "fold_2.zip", "fold_3.zip"),
    ),
)
