"""Whether a tile holds nuclei (MoNuSeg 2018 and Kumar), seven and more organs, H&E.

Read: torch-em (folders), HoVer-Net (Kumar's lists of 16, 8 and 6 names), public readers (1,000 x 1,000 px TIFF, Aperio XML). From memory:
licence and 0.25 micrometres per pixel. How many training pictures the archive holds (30 by the paper, 37 by some readers) was not
settled, so no number is declared. The threshold is that of the paper's nuclei task (Mormont et al. 2021: more than 5 %), on smaller
tiles.
"""

from __future__ import annotations

from histozoo.prepare.layouts.monuseg import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="monuseg_nuclei",
    kind="multiclass",
    folder="monuseg_nuclei",
    classes=("no_nuclei", "nuclei"),
    split_counts={"test": 14 * 225},
    organ="breast, kidney, liver, prostate, bladder, colon, stomach; lung and brain in the test",
    stain="H&E",
    mpp=0.25,
    licence="CC-BY-NC-SA-4.0",
    licence_note="from memory of the challenge page",
    source="https://monuseg.grand-challenge.org/Data/",
    citation=(
        "N. Kumar et al., A dataset and a technique for generalized nuclear segmentation for computational pathology, IEEE Trans. "
        "Med. Imaging "
        "36 (2017) 1550-1560; N. Kumar et al., A multi-organ nucleus segmentation challenge, IEEE Trans. Med. Imaging 39 (2020) 1380-1391"
    ),
    lineage="monuseg",
    traps=(
        "Slides are of TCGA: PanNuke, CPM17, OCELOT and TCGA-UT may share patients.",
        "Kumar's 30 pictures, with Kumar's own test split, are all in the training part here.",
        "Six training pictures listed as liver have barcodes of TCGA's lung projects (18, 21, 38, 49, 50; from memory of the site codes).",
        "Outlines overlap where nuclei touch; a pixel counts once.",
    ),
    notes="64 px tiles without overlap, 15 x 15 per picture. Groups are TCGA patients.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Presence(px=64, stride=64, kind="nucleus", threshold=0.05, present="nuclei", absent="no_nuclei"),
        parts=("MoNuSeg 2018 Training Data.zip", "MoNuSegTestData.zip"),
    ),
)
