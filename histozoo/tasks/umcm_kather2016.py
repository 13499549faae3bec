"""Eight tissue types of colorectal cancer (UMCM, Kather 2016), H&E, tiles of 150 px.

Read in Mormont 2020 (tables of tasks and of classification sets): 5,000 tiles of ten slides, six to train (3,349) and four to test
(1,651), no validation set. Read at Zenodo's description as public pages quote it: 150 x 150 px, 0.495 micrometres per pixel, Aperio,
eight folders, ten primary tumours; CC BY 4.0. Read in public repositories: names such as
`17E8F_CRC-Prim-HE-02_007.tif_Row_151_Col_301.tif`, also without the underscore (`10647_CRC-Prim-HE-10c.tif_Row_1_Col_1.tif`); the number
behind HE is the slide. From memory and not verified: 625 tiles per class.
"""

from __future__ import annotations

from histozoo.prepare.layouts.kather2016 import LAYOUT, WORDS
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="umcm_kather2016",
    kind="multiclass",
    folder="umcm_kather2016",
    classes=tuple(WORDS.values()),
    total=5000,
    organ="colon and rectum",
    stain="H&E",
    mpp=0.495,
    licence="CC-BY-4.0",
    licence_note="read in public texts that quote the Zenodo record",
    licence_checked=True,
    source="https://doi.org/10.5281/zenodo.53169",
    citation="J. N. Kather et al., Multi-class texture analysis in colorectal cancer histology, Scientific Reports 6 (2016) 27988",
    lineage="umcm_kather2016",
    hub="1aurent/Kather-texture-2016",
    preparation=Preparation(
        layout=LAYOUT, rule=Whole(), pictures=5000, parts=("Kather_texture_2016_image_tiles_5000.zip",)
    ),
    notes="Groups are the ten slides, read from the names. The Hub copy has no names, so its slides are lost.",
    traps=(
        "Ten slides: tiles of one slide are alike, and neighbours (Row and Col) touch; a random split measures little.",
        "A class need not occur on every slide.",
        "NCT-CRC-HE-100K comes from the same institute; shared slides are not documented.",
    ),
)
