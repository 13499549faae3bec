"""Cell types of healthy human bone marrow (Kainz 2017), H&E, one cell per image.

Read in Mormont 2020 (table of tasks; the author's thesis): 1,291 images (522 train, 130 val, 639 test), eight classes in one table and
nine in the other. Read in a public repository that holds the authors' tiles: folders 0 to 7 with names such as `0273.png`, so eight
classes. Read in the abstract of Kainz 2017: granulopoietic and erythropoietic cells in different stages. Which number is which cell, the
counts per class, the slides, the original archive and its licence were not found: the layout here is that of the folders 0 to 7, and the
classes keep their numbers.
"""

from __future__ import annotations

from histozoo.prepare.layouts.bone_marrow_kainz import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="bone_marrow_kainz",
    kind="multiclass",
    folder="bone_marrow_kainz",
    classes=tuple(f"cell_{number}" for number in range(8)),
    total=1291,
    organ="bone marrow",
    stain="H&E",
    licence="unknown",
    licence_note="none was found for the images",
    source="https://doi.org/10.1007/s00521-016-2609-9",
    citation=(
        "P. Kainz et al., Training echo state networks for rotation-invariant bone marrow cell classification, Neural Computing and "
        "Applications 28 (2017) 1277-1292"
    ),
    lineage="bone_marrow_graz",
    preparation=Preparation(
        layout=LAYOUT, rule=Whole(), format="keep", pictures=1291, parts=("folders 0 to 7 of single cells",)
    ),
    notes="40x. Groups are images: nothing in the names tells patients or slides apart.",
    traps=(
        "Same hospital, tissue and years as the detection set bone_marrow_graz: cells of one field may be in both, so one lineage.",
        "Cells of one patient stand on both sides of any split.",
    ),
)
