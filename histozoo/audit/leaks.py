"""What a table of groups and splits gives away: groups on both sides, classes without groups, groups that stand for a class."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from histozoo.audit.findings import Finding
from histozoo.audit.reading import Rows

FEW_GROUPS = 5
"""Fewer groups than this hold a class: an interval over groups says little."""
_PARTS = 3
_FEW_TILES = 20


def groups_of(rows: Rows) -> dict[str, Any]:
    """Returns the number of groups, of those with one tile, the largest, their sizes, and how many hold each class."""
    sizes = Counter(rows.groups)
    name, most = sizes.most_common(1)[0]
    per_class = {
        word: len({rows.groups[i] for i in np.flatnonzero(rows.labels_N == k).tolist()})
        for k, word in enumerate(rows.task.classes)
    }
    ordered = sorted(sizes.values(), reverse=True)
    return {
        "n": len(sizes), "singletons": ordered.count(1), "largest": most, "largest_name": name,
        "median": float(np.median(ordered)), "sizes": dict(sorted(Counter(ordered).items())), "per_class": per_class,
    }  # fmt: skip


def splits_of(rows: Rows) -> dict[str, dict[str, int]]:
    """Returns tiles per official split and class; empty where the table names no split."""
    names = sorted(set(rows.splits) - {""})
    label = rows.labels_N.tolist()
    found = Counter((split, label[i]) for i, split in enumerate(rows.splits))
    return {s: {word: found[s, k] for k, word in enumerate(rows.task.classes)} for s in names}


def find(rows: Rows) -> list[Finding]:
    """Returns the findings on groups and splits of one task."""
    return [*_across_splits(rows), *_missing(rows), *_sources(rows), *_few(rows), *_pure(rows)]


def _across_splits(rows: Rows) -> list[Finding]:
    where: dict[str, Counter[str]] = defaultdict(Counter)
    for group, split in zip(rows.groups, rows.splits, strict=True):
        if split:
            where[group][split] += 1
    shared = {group: sorted(parts) for group, parts in where.items() if len(parts) > 1}
    if not shared:
        return []
    tiles = sum(sum(where[group].values()) for group in shared)
    share = tiles / sum(sum(parts.values()) for parts in where.values())
    return [
        Finding(
            code="group-in-two-splits",
            severity="error",
            task=rows.task.name,
            sentence=(
                f"{len(shared)} of {len(where)} groups are in more than one official split "
                f"({share:.0%} of the tiles): a score on that split is measured on groups that were trained on."
            ),
            evidence={"groups": len(shared), "of": len(where), "tiles": tiles, "share": round(share, 4),
                      "first": dict(list(shared.items())[:5])},
            next_step="split by group, not by the official split",
        )
    ]  # fmt: skip


def _missing(rows: Rows) -> list[Finding]:
    absent = {s: [word for word, n in counts.items() if not n] for s, counts in splits_of(rows).items()}
    absent = {split: words for split, words in absent.items() if words}
    if not absent:
        return []
    said = "; ".join(f"{split} lacks {', '.join(words)}" for split, words in absent.items())
    return [
        Finding(
            code="class-missing-in-split",
            severity="warning",
            task=rows.task.name,
            sentence=f"Not every class is in every official split: {said}.",
            evidence={"absent": absent},
            next_step="make a split by group, stratified by class",
        )
    ]


def _sources(rows: Rows) -> list[Finding]:
    groups: dict[str, set[str]] = defaultdict(set)
    for source, group in zip(rows.sources, rows.groups, strict=True):
        if source:
            groups[source].add(group)
    shared = [source for source, names in groups.items() if len(names) > 1]
    if not shared:
        return []
    return [
        Finding(
            code="picture-in-two-groups",
            severity="error",
            task=rows.task.name,
            sentence=f"{len(shared)} of {len(groups)} pictures gave tiles to more than one group: such groups are not independent.",
            evidence={"pictures": len(shared), "of": len(groups), "first": shared[:5]},
            next_step="give all tiles of one picture one group",
        )
    ]


def _few(rows: Rows) -> list[Finding]:
    found = []
    facts = groups_of(rows)
    few = {word: n for word, n in facts["per_class"].items() if n < FEW_GROUPS}
    if few:
        said = ", ".join(f"{word} {n}" for word, n in few.items())
        found.append(
            Finding(
                code="few-groups",
                severity="error" if min(few.values()) < _PARTS else "warning",
                task=rows.task.name,
                sentence=f"In fewer than {FEW_GROUPS} groups: {said}. Their scores rest on so few patients or slides.",
                evidence={"groups": few},
                next_step="add groups, or leave the class out with its reason",
            )
        )
    if facts["n"] == len(rows.groups):
        found.append(
            Finding(
                code="no-groups",
                severity="warning",
                task=rows.task.name,
                sentence="Every tile is a group of its own: tiles of one patient or slide may face each other across a split.",
                evidence={"groups": facts["n"], "tiles": len(rows.groups)},
                next_step="name patients, slides or photographs in the table, if anything tells them",
            )
        )
    counts = np.bincount(rows.labels_N, minlength=len(rows.task.classes))
    if counts.min() < _FEW_TILES or counts.min() * 10 < counts.max():
        least, most = int(counts.argmin()), int(counts.argmax())
        found.append(
            Finding(
                code="few-tiles" if counts.min() < _FEW_TILES else "unbalanced",
                severity="note",
                task=rows.task.name,
                sentence=(
                    f"The classes hold between {counts.min():,} ({rows.task.classes[least]}) and {counts.max():,} "
                    f"({rows.task.classes[most]}) tiles."
                ),
                evidence={word: int(n) for word, n in zip(rows.task.classes, counts, strict=True)},
                next_step="report balanced accuracy with its interval",
            )
        )
    return found


def _pure(rows: Rows) -> list[Finding]:
    classes: dict[str, set[int]] = defaultdict(set)
    sizes = Counter(rows.groups)
    for group, label in zip(rows.groups, rows.labels_N.tolist(), strict=True):
        classes[group].add(label)
    large = [group for group, n in sizes.items() if n > 1]
    pure = [group for group in large if len(classes[group]) == 1]
    tiles = sum(sizes[group] for group in pure)
    if len(large) < 4 or len(pure) < 0.9 * len(large) or tiles < len(rows.groups) / 2:
        return []
    return [
        Finding(
            code="group-tells-class",
            severity="note",
            task=rows.task.name,
            sentence=(
                f"{len(pure)} of {len(large)} groups of two tiles or more hold one class only: whatever marks a group "
                "(stain, scanner, day) marks its class."
            ),
            evidence={"pure": len(pure), "groups": len(large), "tiles": tiles},
            next_step="never divide a group; see what the probes find",
        )
    ]
