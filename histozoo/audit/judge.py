"""From measurements to findings: which numbers are worth a sentence, how grave they are, and what to do.

A probe of what holds no tissue (sizes, encoding) is a warning, and an error where it tells the class by and large. A probe of what holds
some tissue (bytes, tint, sharpness, edges) is a note, and a warning where it tells the class by and large. Copies inside a group are in
order, copies across groups are a warning, copies across official splits, under two labels or in unrelated tasks an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histozoo.audit.families import TISSUE_FREE, TITLES, WORDS
from histozoo.audit.findings import Finding
from histozoo.audit.pool import WAYS, Pool
from histozoo.audit.probe import STRONG, Probed
from histozoo.tasks.base import Task

AUGMENTED = 0.05
"""Share of tiles with a copy in their own group from which on a set is called augmented."""
_TOLD = 0.9

_ADVICE = {
    "size": "bring all classes to one size and one field of view, or leave the task out",
    "stored": "check that the cut hides the size (same pixels per micrometre in every class)",
    "encoding": "encode all classes alike from the originals, or train with random re-encoding",
    "bytes": "look at tint, sharpness and encoding, which make up the bytes",
    "tint": "normalise or vary the stain in training; do not read a high score as morphology alone",
    "sharpness": "look for resampling, focus or compression that differs between classes",
    "edges": "crop the border away, or check scale bars, padding and exposure by class",
}


def of_probes(task: Task, probes: Sequence[Probed]) -> list[Finding]:
    """Returns a finding for each family that tells the class."""
    hidden = {"stored"} if any(p.family == "size" and p.telling for p in probes) else set()
    return [_of_probe(task, p) for p in probes if p.telling and p.family not in hidden]


def _of_probe(task: Task, p: Probed) -> Finding:
    strong = p.strength >= STRONG or p.told_value >= _TOLD
    if p.family in TISSUE_FREE:
        severity = "error" if strong and p.family != "stored" else "warning"
    else:
        severity = "warning" if strong else "note"
    medians = ", ".join(
        f"{word} {value:.3g}"
        for word, value in zip(task.classes, p.medians, strict=True)
        if np.isfinite(value)
    )
    return Finding(
        code=f"{p.family}-tells-class",
        severity=severity,
        task=task.name,
        sentence=(
            f"The class can be told from {WORDS[p.family]} alone: balanced accuracy {p.value:.2f} [{p.low:.2f}, {p.high:.2f}], "
            f"chance {p.chance:.2f}; a model could do the same. Told best: {task.classes[p.told]} ({p.told_value:.2f} "
            f"against the rest). Largest difference: {TITLES.get(p.best, p.best)}; medians {medians}."
        ),
        evidence=p.to_json(),
        next_step=_ADVICE[p.family],
    )


class _Chosen(NamedTuple):
    """A kind of pair within a task that is worth a finding."""

    code: str
    severity: str
    pairs_P: NDArray[np.bool_]
    sentence: str
    next_step: str


def of_copies(pool: Pool, task: int) -> list[Finding]:
    """Returns the findings on pairs within one task."""
    inside = np.flatnonzero(pool.inside(task))
    kinds = [_augmented(pool, task, inside), *_across(pool, inside)]
    return [
        Finding(
            code=kind.code,
            severity=kind.severity,
            task=pool.names[task],
            sentence=kind.sentence,
            evidence=numbers(pool, inside[kind.pairs_P]),
            next_step=kind.next_step,
        )
        for kind in kinds
        if kind is not None and kind.pairs_P.any()
    ]


def _augmented(pool: Pool, task: int, inside: NDArray[np.int64]) -> _Chosen | None:
    one_group = np.diff(_codes(pool.groups)[pool.pairs[inside]], axis=1)[:, 0] == 0
    kin, n = len(np.unique(pool.pairs[inside[one_group]])), int((pool.task_N == task).sum())
    if kin < AUGMENTED * n:
        return None
    sentence = (
        f"{kin:,} of {n:,} tiles ({kin / n:.0%}) have a copy in their group, turned, mirrored, enlarged or photographed again: "
        "the set holds fewer pictures than tiles."
    )
    step = "split by group only, and count groups, not tiles"
    return _Chosen("augmented-copies", "warning", one_group, sentence, step)


def _across(pool: Pool, inside: NDArray[np.int64]) -> Iterator[_Chosen]:
    """Yields what pairs must not cross: official splits, groups, labels."""
    a, b = pool.pairs[inside].T
    split = (pool.splits[a] != pool.splits[b]) & (pool.splits[a] != "") & (pool.splits[b] != "")
    label = pool.labels[a] != pool.labels[b]
    group = (pool.groups[a] != pool.groups[b]) & ~label
    certain = int((label & pool.sure_P[inside]).sum())
    yield _Chosen(
        "copies-in-two-splits",
        "error",
        split,
        f"Of tiles that show one picture, {_pairs(split)} in two official splits.",
        "take the copies out of the test part",
    )
    yield _Chosen(
        "copies-in-two-groups",
        "warning",
        group,
        f"Of tiles that show one picture, {_pairs(group)} in different groups, and may face each other across a split.",
        "join their groups; histozoo.data.splits does so for those that it finds",
    )
    yield _Chosen(
        "labels-contradict",
        "error" if certain else "warning",
        label,
        f"Of tiles that show one picture, {_pairs(label)} under two labels ({certain:,} beyond doubt, the others nearly alike).",
        "correct the labels, or take both tiles out",
    )


def _pairs(chosen_P: NDArray[np.bool_]) -> str:
    n = int(chosen_P.sum())
    return f"{n:,} pair is" if n == 1 else f"{n:,} pairs are"


def _codes(words: NDArray[np.str_]) -> NDArray[np.int64]:
    """Returns one number per word, equal where the words are."""
    return np.unique(words, return_inverse=True)[1].astype(np.int64)


def numbers(pool: Pool, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Returns the number of pairs, by way, and the first of them as places in the pool."""
    ways = {way: int((pool.way_P[rows] == i).sum()) for i, way in enumerate(WAYS)}
    return {
        "pairs": len(rows),
        **{way: n for way, n in ways.items() if n},
        "sure": int(pool.sure_P[rows].sum()),
        "compared": pool.compared,
        "examples": pool.pairs[rows[:200]].tolist(),
    }
