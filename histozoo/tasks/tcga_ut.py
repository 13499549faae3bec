"""Thirty-two cancers from uniform tumour regions of TCGA slides (TCGA-UT), H&E.

Read: the authors' copy on the Hub (271,710 images in its configuration `internal`, licence, keys, labels) and public readers (32 words).
From memory: the folders of the Zenodo record. A public text counts 1,608,060 images over six resolutions, which is not 6 x 271,710.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tcga_ut import CLASSES, LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="tcga_ut",
    kind="multiclass",
    folder="tcga_ut",
    classes=CLASSES,
    total=271_710,
    organ="thirty-two cancers",
    stain="H&E",
    mpp=0.5,
    licence="CC-BY-NC-SA-4.0",
    licence_note="read at the authors' copy on the Hub",
    licence_checked=True,
    source="https://doi.org/10.5281/zenodo.5889558",
    hub="dakomura/tcga-ut",
    citation="D. Komura et al., Universal encoding of pan-cancer histology by deep texture representations, Cell Reports 38 (2022) 110424",
    lineage="tcga_ut",
    traps=(
        (
            "TCGA sites leave their traces in stain and scanner: a cancer type can be told by the hospital. The Hub's `external` split "
            "holds sites out."
        ),
        "MoNuSeg, CPM17, PanNuke, OCELOT and any backbone pretrained on TCGA share slides with it.",
        "Some thirty images come from one slide: divide patients, never images.",
        "Some readers count 31 classes on the Hub; the archive has 32 folders (colon and rectum apart).",
    ),
    notes="256 x 256 px JPEG, resolution 0 of 0 to 5 (0.5 micrometres per pixel). Groups are TCGA patients; the archive names no split.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Whole(),
        format="keep",
        pictures=271_710,
        parts=("the archives of the Zenodo record",),
    ),
)
