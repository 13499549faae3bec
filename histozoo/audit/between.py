"""What two tasks share: tiles, photographs, group names. In order where they declare one lineage, an error where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.audit.findings import Finding
from histozoo.audit.frames import Shared
from histozoo.audit.judge import numbers
from histozoo.audit.pool import Pool
from histozoo.tasks.base import Task

_BY_CHANCE = 2
"""Tiles of one task that look like tiles of an unrelated one, at most, for a note."""
_SPECIFIC = 8
"""Mean length in characters from which on group names are not just "patient1"."""


def find(pool: Pool, tasks: Sequence[Task], frames: Mapping[tuple[int, int], Shared]) -> list[Finding]:
    """Returns the findings on every two tasks.

    Args:
        pool: All drawn tiles and their pairs.
        tasks: In the order of the pool.
        frames: Numbers of two tasks -> what `shared_frames` says of them.
    """
    found = []
    for i, j in combinations(range(len(tasks)), 2):
        pairs = np.flatnonzero(pool.between(i, j))
        if len(pairs):
            found.append(_pictures(pool, tasks[i], tasks[j], pairs))
        if (i, j) in frames:
            found += _frames(tasks[i], tasks[j], frames[i, j])
    return found


def _pictures(pool: Pool, first: Task, second: Task, pairs: NDArray[np.int64]) -> Finding:
    sure = int(pool.sure_P[pairs].sum())
    what = f"{first.name} and {second.name} share {sure:,} pictures beyond doubt, and {len(pairs) - sure:,} that look alike."
    # Bland tiles of unrelated sets look alike now and then, one of them like many: that is worth a look, and no proof.
    alike = min(len(np.unique(side)) for side in pool.pairs[pairs].T)
    severity = "error" if sure else "warning" if alike > _BY_CHANCE else "note"
    return _finding("tasks-share-pictures", severity, first, second, what, numbers(pool, pairs))


def _frames(first: Task, second: Task, shared: Shared) -> list[Finding]:
    common = f"{first.name} and {second.name} have {shared.names:,} group names in common"
    if shared.proved:
        what = (
            f"{common}, and tiles of equal name show the same pixels in {shared.matched} of {shared.tried} looked at "
            f"({shared.matched_by_chance} by chance): they are cut from the same photographs."
        )
        return [_finding("tasks-share-frames", "error", first, second, what, shared.to_json())]
    specific = float(np.mean([len(name) for name in shared.common])) >= _SPECIFIC
    if first.lineage == second.lineage or shared.share < 0.5 or not specific:
        return []
    what = f"{common}, {shared.share:.0%} of the smaller number; the pixels do not prove more."
    return [_finding("tasks-share-group-names", "warning", first, second, what, shared.to_json())]


def _finding(
    code: str, severity: str, first: Task, second: Task, what: str, evidence: dict[str, Any]
) -> Finding:
    """Returns the finding, a note where the tasks declare one lineage."""
    kin = first.lineage == second.lineage
    known = "declare one lineage, as they must" if kin else "declare different lineages"
    then = "" if kin else ": a model trained on one would be tested on the other"
    lineages = f"now {first.lineage!r} and {second.lineage!r}"
    return Finding(
        code=code,
        severity="note" if kin else severity,
        task=first.name,
        others=(second.name,),
        sentence=f"{what} They {known}{then}.",
        evidence={**evidence, "lineages": [first.lineage, second.lineage]},
        next_step=""
        if kin
        else f"declare one lineage for both, so that they are left out together ({lineages})",
    )
