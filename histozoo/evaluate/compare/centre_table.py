"""Which centre (hospital, scanner, staining laboratory) each tile of a task comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from histozoo.data.rows import read_cells
from histozoo.errors import UsageError

GROUPS = "group"
"""Said instead of a file where every group of the task is a centre."""


def require(centres: str, tasks: Sequence[str], data_root: str | Path | None) -> None:
    """Refuses centres that are not known of every task, before the first one is measured.

    Raises:
        UsageError: `HZ-I75`, there is no such file; and what `of_task` raises.
    """
    if centres != GROUPS and not Path(centres).is_file():
        raise UsageError(
            "HZ-I75",
            "these are no centres: there is no such file",
            expected=f"a CSV with the columns group and centre, or the word {GROUPS}",
            got=f"--centres {centres}",
            kept="nothing was measured",
            next_step=f"--centres FILE; or --centres {GROUPS}, where every group of the task is a centre",
        )
    for task in tasks:
        of_task(centres, task, data_root)


def of_task(centres: str, task: str, data_root: str | Path | None) -> tuple[list[str], list[str]]:
    """Returns the centre and the slide of each tile, in the order of the task's rows.

    Args:
        centres: A CSV with the columns `group` and `centre`; the groups are then slides (or patients). Or `group`: every group is a centre,
            and each tile counts as a slide of its own.
        task: Name of the task.
        data_root: Folder of the task folders.

    Raises:
        UsageError: `HZ-U32` the file cannot be read, or a group is in two centres; `HZ-I75` a group of the task is not in it.
    """
    from histozoo.tasks import task as declared

    groups_N = [str(g) for g in declared(task).load(data_root)["group"]]
    if centres == GROUPS:
        return groups_N, [str(i) for i in range(len(groups_N))]
    centre_of: dict[str, str] = {}
    for line, cells in read_cells(Path(centres), needed=("group", "centre")):
        group, centre = cells["group"], cells["centre"]
        if centre_of.setdefault(group, centre) != centre:
            raise UsageError(
                "HZ-U32",
                "a group is in two centres",
                where=f"{centres}, line {line}",
                expected=centre_of[group],
                got=centre,
                next_step="correct the line, or give the part of the group that is of another centre a name of its own",
            )
    if absent := sorted({g for g in groups_N if g not in centre_of}):
        raise UsageError(
            "HZ-I75",
            "the centre of a group is not known",
            where=centres,
            expected=f"a line for each group of {task}",
            got=f"{len(absent)} groups without one: {', '.join(absent[:5])}",
            next_step="add a line for each; its first column is the column group of the task's own table",
        )
    return [centre_of[g] for g in groups_N], groups_N
