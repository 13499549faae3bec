"""Leave-one-lineage-out: is a trunk better than random weights on tasks that its training never saw?

Each run left out one lineage (the tasks that share slides or patients). On these tasks its trunk and the same
architecture with random weights go through the feature-extraction protocol on the same folds; what is
reported is each value, the paired difference, and average ranks over tasks, all with 95 % intervals over
groups. After Mormont et al. (2021), section III, where tasks sharing slides are left out together.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.comparison import RANDOM_SEEDS, compare_left_out
from histozoo.evaluate.labelled import read
from histozoo.evaluate.report import Findings
from histozoo.evaluate.trunks import Run, read_run

_log = logging.getLogger(__name__)


def study(
    runs: Iterable[str | Path],
    *,
    out: str | Path,
    cache: str | Path,
    data_root: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    random_seeds: Sequence[int] = RANDOM_SEEDS,
    seed: int = 0,
    resamples: int = 10_000,
) -> dict[str, Any]:
    """Measures every left-out task, writes `out` (JSON) and a table beside it (`.txt`), and returns what the JSON holds.

    Args:
        runs: Finished run folders of one experiment, each trained without a lineage.
        out: The JSON file to write.
        cache: Where decoded tiles are kept.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        tasks: Names of the tasks to measure; where it is None, those that the experiment names of the left-out lineages:
            the pool may hold others, which nobody needs to have.
        random_seeds: Seeds of the random initialisations, at least three.
        seed: Seed of folds and resampling.
        resamples: Bootstrap resamples.

    Raises:
        UsageError: `HZ-U53` the runs are not comparable or the seeds too few; `HZ-U54` a run was trained on the lineage of its task;
            `HZ-E38` a left-out tile is also a training tile; and what the protocol raises.
    """
    known = [read_run(folder) for folder in runs]
    _comparable(known, random_seeds)
    planned = plan(known, tasks)
    names = {*planned, *(other for run in planned.values() for other in run.tasks)}
    read_in = {n: read(n, data_root=data_root, tile_px=known[0].tile_px, cache=cache) for n in sorted(names)}
    digests = {name: tile_digests(labelled.tiles_NHWC) for name, labelled in read_in.items()}
    findings = Findings(study="leave_one_lineage_out", resamples=resamples)
    for name, run in planned.items():
        refuse_shared(name, digests[name], {other: digests[other] for other in run.tasks})
        _log.info("%s: left out of %s", name, run.folder.name)
        findings.add(
            name, partial(compare_left_out, run, read_in[name], random_seeds=random_seeds, seed=seed)
        )
    return findings.write(out)


def plan(runs: Sequence[Run], tasks: Sequence[str] | None = None) -> dict[str, Run]:
    """Returns task -> the run it is measured with: the one that left its lineage out, else one that was trained on no such task.

    Raises:
        UsageError: `HZ-U53` nothing to measure; `HZ-U54` every run was trained on a task of this lineage.
    """
    from histozoo.tasks import TASKS, task

    if tasks is None:
        left_out = {lineage for run in runs for lineage in run.left_out}
        named = {name for run in runs for name in run.named}
        tasks = [t.name for t in TASKS.values() if t.lineage in left_out and t.name in named]
    if not tasks:
        raise UsageError(
            "HZ-U53", "no task was left out of these runs", where=", ".join(r.folder.name for r in runs)
        )
    chosen = {}
    for name in tasks:
        lineage = task(name).lineage
        clean = [run for run in runs if lineage not in trained_lineages(run)]
        if not clean:
            raise UsageError(
                "HZ-U54",
                f"{name} was not left out: every run was trained on its lineage",
                where="; ".join(f"{r.folder.name}: {_of_lineage(r, lineage)}" for r in runs),
                expected=f"a run trained without lineage {lineage!r}",
                next_step=f"histozoo pretrain <experiment> --leave-out {lineage}",
            )
        chosen[name] = next((run for run in clean if lineage in run.left_out), clean[0])
    return chosen


def trained_lineages(run: Run) -> set[str]:
    """Returns the lineages a run was trained on: as it recorded them, and as the tasks declare them today."""
    from histozoo.tasks import TASKS

    return set(run.tasks.values()) | {TASKS[name].lineage for name in run.tasks if name in TASKS}


def _of_lineage(run: Run, lineage: str) -> str:
    return ", ".join(name for name, trained in run.tasks.items() if trained == lineage) or lineage


def _comparable(runs: Sequence[Run], random_seeds: Sequence[int]) -> None:
    kinds = {(r.architecture, r.tile_px, r.mean, r.std) for r in runs}
    if len(kinds) != 1:
        raise UsageError(
            "HZ-U53",
            "the runs are not comparable" if runs else "no run was given",
            expected="one architecture, tile size, mean and std",
            got="; ".join(f"{r.folder.name}: {r.architecture} at {r.tile_px} px" for r in runs),
        )
    if len(set(random_seeds)) < 3:
        raise UsageError(
            "HZ-U53", "too few random initialisations", expected="3 different seeds", got=random_seeds
        )


def tile_digests(tiles_NHWC: NDArray[np.uint8]) -> list[bytes]:
    """Returns the sha256 of each tile's pixels."""
    return [hashlib.sha256(tile.tobytes()).digest() for tile in tiles_NHWC]


def refuse_shared(name: str, digests_N: Sequence[bytes], trained_on: Mapping[str, Sequence[bytes]]) -> None:
    """Refuses a left-out task that shares a tile with a task trained on.

    Args:
        name: The left-out task.
        digests_N: Its tiles' digests.
        trained_on: Task -> its tiles' digests.

    Raises:
        UsageError: `HZ-E38`, with the number of common tiles and the rows of the first five.
    """
    for other, digests in trained_on.items():
        known = set(digests)
        shared = [row for row, digest in enumerate(digests_N) if digest in known]
        if shared:
            raise UsageError(
                "HZ-E38",
                "a left-out tile is also a training tile",
                where=f"{name} and {other}",
                expected="no tile in both",
                got=f"{len(shared)} tiles of {name}, rows {', '.join(map(str, shared[:5]))}",
                kept="nothing was scored",
                next_step="give the two tasks one lineage, so that they are left out together",
            )
