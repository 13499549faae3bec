"""Liquid-based cervical cytology in four Bethesda classes, Papanicolaou."""

from __future__ import annotations

from histozoo.tasks.base import Task

TASK = Task(
    name="cervical_lbc",
    kind="multiclass",
    folder="cervical_lbc",
    classes=("HSIL", "LSIL", "NILM", "SCC"),
    counts=(163, 113, 600, 74),
    organ="cervix",
    stain="Papanicolaou (liquid-based cytology)",
    licence="CC-BY-4.0",
    licence_note="read in the repository's README, which quotes Mendeley Data",
    licence_checked=True,
    source="https://data.mendeley.com/datasets/zddtpgzv63/4",
    citation=(
        "E. Hussain et al., Liquid based-cytology Pap smear dataset for automated multi-class diagnosis of pre-cancerous and cervical "
        "cancer lesions, Data in Brief 30 (2020) 105589"
    ),
    lineage="cervical_lbc",
    traps=(
        (
            "All classes but NILM went through a rotation with resampling: accuracy between NILM and the rest is partly "
            "about that. Good to train on, weak as evidence."
        ),
        "Groups never hold two classes, and two classes lie in four groups each.",
    ),
    notes=(
        "Resized with the aspect ratio squeezed, so the scale is not known. Groups are an undocumented prefix of the file "
        "names, perhaps the slide."
    ),
)
