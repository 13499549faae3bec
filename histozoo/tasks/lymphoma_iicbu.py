"""Three lymphoma subtypes (CLL, FL, MCL), H&E, images cut into a 3 x 3 grid."""

from __future__ import annotations

from histozoo.data.rows import Cells
from histozoo.tasks.base import Task

_ONE_CASE = ("sj-05-6124-R3", "sj-05-6124-R4")


def _case(cells: Cells) -> str:
    return "sj-05-6124-R3+R4" if cells["group"] in _ONE_CASE else cells["group"]


TASK = Task(
    name="lymphoma_iicbu",
    kind="multiclass",
    folder="lymphoma_iicbu",
    classes=("CLL", "FL", "MCL"),
    counts=(113, 139, 122),
    organ="lymph node",
    stain="H&E",
    licence="unknown",
    licence_note="not specified at the source; made at the US National Institute on Aging",
    source="https://ome.grc.nia.nih.gov/iicbu2008/lymphoma/index.html",
    citation=(
        "N. V. Orlov et al., Automatic classification of lymphoma images with transform-based global features, "
        "IEEE Trans. Inf. Technol. Biomed. 14 (2010) 1003-1013; "
        "L. Shamir et al., IICBU 2008: a proposed benchmark suite for biological image analysis, Med. Biol. Eng. Comput. 2008"
    ),
    lineage="lymphoma_iicbu",
    group_rule=_case,
    cut_px=280,
    traps=(
        "The slides were prepared at different sites, and their staining varies a lot.",
        "The split that lies beside the copy these were taken from puts images of one slide on both sides; it is not used.",
        "sj-05-6124-R3 and sj-05-6124-R4 may be one case; they are one group here.",
    ),
    notes="20x objective, central 840 x 840 px of each image, so nine tiles of 280 px. Groups are slides.",
)
