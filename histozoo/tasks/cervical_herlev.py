"""Single cervical cells in seven classes (Herlev), Papanicolaou."""

from __future__ import annotations

from histozoo.tasks.base import Task

TASK = Task(
    name="cervical_herlev",
    kind="multiclass",
    folder="cervical_herlev",
    classes=(
        "carcinoma_in_situ",
        "light_dysplastic",
        "moderate_dysplastic",
        "normal_columnar",
        "normal_intermediate",
        "normal_superficial",
        "severe_dysplastic",
    ),
    counts=(150, 182, 146, 98, 70, 74, 197),
    organ="cervix",
    stain="Papanicolaou",
    licence="unknown",
    licence_note="offered for research; no formal licence found",
    source="http://mde-lab.aegean.gr/index.php/downloads",
    citation="J. Jantzen, J. Norup, G. Dounias, B. Bjerregaard, Pap-smear benchmark data for pattern classification, NiSIS 2005, 1-9",
    lineage="cervical_herlev",
    traps=(
        (
            "Each cell was enlarged to one side, whatever its size, and framed with the colour of its border: the size of a "
            "cell, which pathologists go by, is gone."
        ),
        "Groups rest on numbers in the names that nobody documents.",
    ),
    notes=(
        "0.201 micrometres per pixel in the original, but each cell was enlarged to 224 px, so the scale is not known. "
        "Groups are the first two numbers of the file names, perhaps a slide or session."
    ),
)
