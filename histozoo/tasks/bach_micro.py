"""Normal, benign, in situ or invasive (BACH, microscopy images), breast, H&E.

Read in Mormont 2020 (tables of tasks and of classification sets): 4,800 tiles of 512 px from 400 images, 12 each, 284 patients (2,760
train, 720 val, 1,320 test). Read at the challenge site: 100 images per class, 2048 x 1536 px, 0.42 micrometres per pixel, TIFF; a file
names the patients of part of the images, and the others may be taken as other patients. That file lies elsewhere and was not seen. Read
in public repositories: folders, names (`b001.tif`, `is001.tif`, `iv001.tif`, `n001.tif`), and the split of kaiko-ai/eva, made from that
file so that no patient stands on both sides: runs of consecutive images, 268 and 132. Read in a Hub card: CC BY-NC-ND 4.0, Zenodo
3632035.
"""

from __future__ import annotations

from histozoo.prepare.layouts.bach import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Tiles
from histozoo.tasks.base import Task

TASK = Task(
    name="bach_micro",
    kind="multiclass",
    folder="bach_micro",
    classes=("normal", "benign", "in_situ", "invasive"),
    counts=(1200, 1200, 1200, 1200),
    total=4800,
    split_counts={"train": 3216, "val": 1584},
    organ="breast",
    stain="H&E",
    mpp=0.42,
    licence="CC-BY-NC-ND-4.0",
    licence_note="read in a Hub card that quotes the Zenodo record",
    licence_checked=True,
    source="https://doi.org/10.5281/zenodo.3632035",
    citation="G. Aresta et al., BACH: Grand challenge on breast cancer histology images, Medical Image Analysis 56 (2019) 122-139",
    lineage="bach",
    hub="1aurent/BACH",
    preparation=Preparation(
        layout=LAYOUT, rule=Tiles(px=512), pictures=400, parts=("ICIAR2018_BACH_Challenge.zip",)
    ),
    notes=(
        "The split is that of kaiko-ai/eva, by patient; the authors publish none for the labelled images. Groups are the runs of "
        "consecutive "
        "images between its borders, because patients are not in the archive: coarse, but no run is torn."
    ),
    traps=(
        "284 patients gave 400 images and neighbours in number are often of one patient: never split at random.",
        "The 100 images of the challenge's test set have no published labels; the Hub copy gives them the class Unknown.",
        "An extended version of an earlier set of the same hospital (Bioimaging 2015) shares images with it.",
    ),
)
