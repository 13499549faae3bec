"""Three lymphoma subtypes (Janowczyk's use case 7, which is the IICBU lymphoma set), H&E, tiles of 384 px.

Read in Mormont 2020 (tables of tasks and of classification sets): 2,244 tiles of 384 px from 374 images; the paper splits by image. Six
per image of 1388 x 1040 px are reproduced by a grid without overlap. Read in public repositories: the archive's address, folders CLL, FL
and MCL, names such as `sj-05-588-R1_001.tif`. Images per class (113, 139, 122) as in the task `lymphoma_iicbu`, times six.
"""

from __future__ import annotations

from histozoo.prepare.layouts.lymphoma import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Tiles
from histozoo.tasks.base import Task

TASK = Task(
    name="janowczyk7_lymphoma",
    kind="multiclass",
    folder="janowczyk7_lymphoma",
    classes=("CLL", "FL", "MCL"),
    counts=(678, 834, 732),
    total=2244,
    organ="lymph node",
    stain="H&E",
    licence="unknown",
    licence_note="not specified at the source; made at the US National Institute on Aging",
    source="https://andrewjanowczyk.com/wp-static/lymphoma.tar.gz",
    citation=(
        "N. V. Orlov et al., Automatic classification of lymphoma images with transform-based global features, "
        "IEEE Trans. Inf. Technol. Biomed. 14 (2010) 1003-1013; A. Janowczyk, A. Madabhushi, J. Pathol. Inform. 7 (2016) 29"
    ),
    lineage="lymphoma_iicbu",
    preparation=Preparation(layout=LAYOUT, rule=Tiles(px=384), pictures=374, parts=("lymphoma.tar.gz",)),
    notes=(
        "20x objective, 1388 x 1040 px. The images of `lymphoma_iicbu`, whole and cut as the paper cuts them: one lineage. Groups "
        "are slides; "
        "sj-05-6124-R3 and sj-05-6124-R4 may be one case and are one group."
    ),
    traps=(
        "The paper counts 374 patients, one per image; the names show 30 slides, so its split mixes images of one slide.",
        "Prepared at different sites: staining varies with the slide, and ten slides carry each class.",
    ),
)
