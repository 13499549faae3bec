"""Every task whose original lies in one folder, prepared one after the other; a task that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from histozoo.errors import HistozooError, Interrupted, RejectedInputs, ResourceError, UsageError
from histozoo.prepare.counts import Report
from histozoo.prepare.engine import prepare
from histozoo.prepare.layouts.tile_table import prepared_as_is
from histozoo.tasks import TASKS
from histozoo.tasks.base import Task


def preparable(task: Task) -> Task:
    """Returns the task itself where it declares a preparation; a set that lies as a table gets one that copies its tiles."""
    return task if task.preparation else prepared_as_is(task)


def sources(where: str | Path) -> list[tuple[Task, Path]]:
    """Returns each task whose original is in `where`, and where: a folder or archive named as the task or as what its authors publish.

    Args:
        where: Folder that holds one folder or archive per dataset.

    Raises:
        UsageError: `HZ-U73`, no such folder, or nothing in it that a task knows.
    """
    where = Path(where)
    found = list(_known(where)) if where.is_dir() else []
    if not found:
        raise UsageError(
            "HZ-U73",
            "no dataset of a known task is there" if where.is_dir() else "there is no such folder",
            where=where,
            expected="one folder or archive per dataset, named as the task or as its authors' archive",
            next_step="`histozoo tasks NAME` says what the archive is called; a single one: `histozoo prepare NAME --from ARCHIVE`",
        )
    return found


def _known(where: Path) -> Iterator[tuple[Task, Path]]:
    for declared in TASKS.values():
        task = preparable(declared)
        assert task.preparation is not None
        parts = task.preparation.parts
        # A dataset of several archives is a folder that holds them all; one of them alone is not the dataset.
        names = [*dict.fromkeys((task.name, task.folder)), *(parts if len(parts) == 1 else ())]
        place = next((where / name for name in names if (where / name).exists()), None)
        if place is not None:
            yield task, place


def prepare_all(
    found: Sequence[tuple[Task, Path]],
    out: str | Path,
    *,
    workers: int | None = None,
    shards: bool = False,
    skip_bad: bool = False,
    accept_counts: bool = False,
    on_task: Callable[[Task, Report | HistozooError | None], Callable[[int, int], None] | None],
) -> list[Report]:
    """Prepares tasks one after the other.

    Args:
        found: Tasks and their originals, from `sources`.
        out: Folder of the task folders.
        workers: Processes per task; None is one per core.
        shards: Write Parquet shards in place of single files.
        skip_bad: Leave out pictures that cannot be used.
        accept_counts: Take other numbers than the published ones, and record them.
        on_task: Called with a task and None before it begins, where it may return a progress function; with its report or error after.

    Returns:
        The reports of the tasks that are there now.

    Raises:
        RejectedInputs: `HZ-U78`, some tasks could not be prepared; the others are there.
        Interrupted: `HZ-U79`.
        ResourceError: `HZ-F42`, `HZ-U80`: what stands in the way of one task stands in the way of all.
    """
    reports, failed = [], []
    for task, source in found:
        progress = on_task(task, None)
        outcome: Report | HistozooError
        try:
            outcome = prepare(
                task,
                source,
                out,
                workers=workers,
                shards=shards,
                skip_bad=skip_bad,
                accept_counts=accept_counts,
                progress=progress,
            )
            reports.append(outcome)
        except (Interrupted, ResourceError):
            raise
        except HistozooError as error:
            outcome = error
            failed.append(f"{task.name}: {error.code} {error.what}")
        on_task(task, outcome)
    if failed:
        raise RejectedInputs(
            "HZ-U78",
            f"{len(failed)} of {len(found)} tasks could not be prepared without losses",
            where=out,
            got="; ".join(failed),
            kept=f"{len(reports)} tasks are there",
            next_step="run `histozoo prepare NAME --from ...` for each to see its whole message",
        )
    return reports
