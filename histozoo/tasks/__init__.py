"""The tasks: one file each, with a constant `TASK`. A new task is one file and one line here."""

from __future__ import annotations

import difflib
from importlib import import_module

from histozoo.errors import UsageError
from histozoo.tasks.base import Task

__all__ = ["TASKS", "Task", "task"]

# What Mormont, Geurts, Maree trained and tested on, as far as it is public.
_PAPER = (
    "mitos_atypia14",
    "warwick_crc",
    "janowczyk1_nuclei",
    "janowczyk2_epithelium",
    "janowczyk5_mitosis",
    "janowczyk6_idc",
    "janowczyk7_lymphoma",
    "stroma_lbp",
    "tupac16_mitosis",
    "bach_micro",
    "camelyon16",
    "umcm_kather2016",
    "bone_marrow_kainz",
    "breakhis",
)
# Public sets since then.
_NEWER = (
    "nct_crc_he",
    "pcam",
    "mhist",
    "bracs",
    "sicapv2",
    "gleason_arvaniti",
    "lc25000_full_lung",
    "lc25000_full_colon",
    "pannuke_tissue",
    "pannuke_neoplastic",
    "wilds_camelyon17",
    "tcga_ut",
    "ocelot",
)
# Drawn glands and nuclei, as presence in a tile; the same archives serve segmentation.
_SEGMENTATION = (
    "glas_glands",
    "crag_glands",
    "monuseg_nuclei",
    "cpm17_nuclei",
    "tnbc_nuclei",
    "consep_nuclei",
)
# Small sets that lie as tables of tiles.
_TABLES = (
    "oral_oscc",
    "lymphoma_iicbu",
    "lc25000_lung",
    "lc25000_colon",
    "glas",
    "cervical_lbc",
    "cervical_herlev",
    "wbc_zheng",
    "bccd_cells",
    "bccd_wbc",
    "all_leukemia",
    "aml_lmu_mini",
    "pbc_mini",
    "malaria_mini",
)
# Masks and points beside such tables, turned into classes.
_FROM_TABLES = (
    "glas_presence",
    "dsb2018_nuclei",
    "lgg36_nuclei",
    "bone_marrow_graz_cells",
    "adipocyte_gtex_cells",
    "wbc_zheng_nucleus",
)

_MOST_NAMED = 12
"""Names in an error."""

TASKS: dict[str, Task] = {
    name: import_module(f"histozoo.tasks.{name}").TASK
    for name in (*_TABLES, *_FROM_TABLES, *_PAPER, *_NEWER, *_SEGMENTATION)
}


def task(name: str) -> Task:
    """Returns the task of this name.

    Raises:
        UsageError: `HZ-U30`, no such task; names the nearest ones.
    """
    if name in TASKS:
        return TASKS[name]
    near = _near(name)
    raise UsageError(
        "HZ-U30",
        "there is no such task",
        got=repr(name),
        expected=", ".join(near) or f"one of {len(TASKS)} names",
        next_step="`histozoo tasks` lists all names",
    )


def _near(name: str) -> list[str]:
    """Returns names with a part that begins with what was given, such as bach_micro for bach; else those that are spelt alike."""
    wanted = name.strip().casefold().replace("-", "_")
    begun = [known for known in TASKS if f"_{known}".find(f"_{wanted}") >= 0] if wanted else []
    return begun[:_MOST_NAMED] or difflib.get_close_matches(wanted, TASKS, 3, 0.6)
