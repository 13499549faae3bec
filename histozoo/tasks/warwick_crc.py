"""Inflammatory nucleus in the tile or not (CRCHistoPhenotypes), colorectal adenocarcinoma, H&E.

Read in Mormont 2020 (tables of tasks and of detection sets): 2,500 tiles of 100 px from 100 images, no overlap; present where an
inflammatory nucleus lies in the tile, absent for other nuclei and none. Read in the archive's own Readme (a public repository holds it):
100 images, 29,756 nuclei of which 22,444 have a class, `.mat` files of coordinates, research use only, and a renaming of 2016-04-28 that
made the folders Classification and Detection agree. Read in several public repositories: names, the variable `detection`, x before y,
images of 500 x 500 px. From memory and not verified: 20x, 0.55 micrometres per pixel, ten slides of nine patients. Class counts were not
found.
"""

from __future__ import annotations

from histozoo.prepare.layouts.crchistophenotypes import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Contains
from histozoo.tasks.base import Task

TASK = Task(
    name="warwick_crc",
    kind="multiclass",
    folder="warwick_crc",
    classes=("absent", "present"),
    total=2500,
    organ="colon and rectum",
    stain="H&E",
    mpp=0.55,
    licence="research use only",
    licence_note="read in the archive's own Readme",
    licence_checked=True,
    source="https://warwick.ac.uk/fac/cross_fac/tia/data/crchistolabelednucleihe/",
    citation=(
        "K. Sirinukunwattana et al., Locality sensitive deep learning for detection and classification of nuclei in routine colon cancer "
        "histology images, IEEE Trans. Med. Imaging 35 (2016) 1196-1206"
    ),
    lineage="warwick_crc",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Contains(px=100, stride=100, kinds=("inflammatory",), present="present", absent="absent"),
        pictures=100,
        parts=("CRCHistoPhenotypes_2016_04_28.zip",),
    ),
    notes="500 x 500 px, so 25 tiles per image. Groups are images: patients are not published. mpp from memory of the paper.",
    traps=(
        "About ten slides gave the hundred images and nothing says which: images of one slide may stand on both sides of a split.",
        "7,312 of the nuclei have no class; an inflammatory one among them makes an absent tile.",
        "CoNSeP, GlaS and CRAG come from the same hospital; shared slides are not documented.",
    ),
)
