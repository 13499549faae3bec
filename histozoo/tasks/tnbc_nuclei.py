"""Whether a tile holds nuclei (TNBC), triple-negative breast cancer, H&E.

Read: torch-em (folders, alpha channel, Zenodo record 1175282) and surveys (50 pictures of 512 x 512 px, 11 patients, 40x). From memory:
licence. The threshold is that of the paper's nuclei task (Mormont et al. 2021: more than 5 %), on smaller tiles.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tnbc import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="tnbc_nuclei",
    kind="multiclass",
    folder="tnbc_nuclei",
    classes=("no_nuclei", "nuclei"),
    total=50 * 64,
    organ="breast",
    stain="H&E",
    licence="CC-BY-4.0",
    licence_note="from memory of the Zenodo record",
    source="https://doi.org/10.5281/zenodo.1175282",
    citation=(
        "P. Naylor et al., Segmentation of nuclei in histopathology images by deep regression of the distance map, IEEE Trans. Med."
        " Imaging 38 "
        "(2019) 448-459"
    ),
    lineage="tnbc",
    traps=(
        "Version 1.1 (record 2579118) and the extension with brain (3552674) are other archives; numbers here are of the first.",
        "Eleven patients: a fold holds one or two, and results swing with them.",
    ),
    notes="64 px tiles without overlap, 8 x 8 per picture, 40x. Groups are patients; there is no official split.",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Presence(px=64, stride=64, kind="nucleus", threshold=0.05, present="nuclei", absent="no_nuclei"),
        pictures=50,
        parts=("TNBC_NucleiSegmentation.zip",),
    ),
)
