"""Epithelium or stroma (the LBP set of Linder et al.), colorectal cancer, immunohistochemistry.

Read in the abstract of Linder 2012: 643 patients, tissue microarrays; 41 + 39 images to train, 576 to validate and 720 to test, which add
to 1,376. Read in Mormont 2020 (tables of tasks and of classification sets): 2,313 tiles of 1,376 images, `original`, split by image (947
train, 407 val, 959 test; 492, 228 and 656 images). How 1,376 images became 2,313 tiles is not said, so the total here is Linder's. Read
in public repositories: sizes from 293 x 294 to 1088 x 1089 px, the first character of a name as the class (0 epithelium, 1 stroma), and
names such as `0_60570_Oncotex_str_valid`. The folders, the file type, the counts per class, the pixel size and the licence were not
found, and the archive was not seen. That the stain is EGFR with haematoxylin is from memory.
"""

from __future__ import annotations

from histozoo.prepare.layouts.stroma_lbp import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="stroma_lbp",
    kind="multiclass",
    folder="stroma_lbp",
    classes=("epithelium", "stroma"),
    total=1376,
    not_reproduced=(
        2_313,
        "the paper does not say how 1,376 images became so many tiles. The total compared is that of the authors",
    ),
    organ="colon and rectum",
    stain="IHC (EGFR, haematoxylin)",
    licence="unknown",
    licence_note="none was found for the images",
    source="http://fimm.webmicroscope.net/",
    citation=(
        "N. Linder et al., Identification of tumor epithelium and stroma in tissue microarrays using texture analysis, "
        "Diagnostic Pathology 7 (2012) 22"
    ),
    lineage="stroma_lbp",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Whole(),
        format="keep",
        pictures=1376,
        parts=("the epithelium and stroma images of Linder 2012",),
    ),
    notes="Images of 293 to 1088 px. Groups are the numbers in the names; what they number was not found.",
    traps=(
        "Images are of different size, and size may go with class.",
        "643 patients gave 1,376 images, and the names do not name patients: one patient may stand on both sides of a split.",
    ),
)
