"""The tasks: one file each, with a constant `TASK`. A new task is one file and one line here."""

from __future__ import annotations

import difflib

from histozoo.errors import UsageError
from histozoo.tasks import (
    all_leukemia,
    aml_lmu_mini,
    bccd_cells,
    bccd_wbc,
    cervical_herlev,
    cervical_lbc,
    glas,
    lc25000_colon,
    lc25000_lung,
    lymphoma_iicbu,
    malaria_mini,
    oral_oscc,
    pbc_mini,
    wbc_zheng,
)
from histozoo.tasks.base import Task

__all__ = ["TASKS", "Task", "task"]

TASKS: dict[str, Task] = {
    module.TASK.name: module.TASK
    for module in (
        oral_oscc,
        lymphoma_iicbu,
        lc25000_lung,
        lc25000_colon,
        glas,
        cervical_lbc,
        cervical_herlev,
        wbc_zheng,
        bccd_cells,
        bccd_wbc,
        all_leukemia,
        aml_lmu_mini,
        pbc_mini,
        malaria_mini,
    )
}


def task(name: str) -> Task:
    """Returns the task of this name.

    Raises:
        UsageError: `HZ-U30`, no such task; names the nearest ones.
    """
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, 3, 0.4) or sorted(TASKS)
    raise UsageError(
        "HZ-U30",
        "there is no such task",
        got=repr(name),
        expected=", ".join(near),
        next_step="use one of these names",
    )
