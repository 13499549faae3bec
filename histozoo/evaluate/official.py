"""The split that a task's own table names. Nothing is scored on it, yet what it gives away says that the table cannot be meant so."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from histozoo.errors import UsageError

if TYPE_CHECKING:
    from datasets import Dataset

    from histozoo.tasks import Task

_SHOWN = 5


def check(task: Task, data_root: str | Path | None, dataset: Dataset) -> None:
    """Refuses a table whose column `split` has a group on both sides, and warns of a part of it that lacks a class.

    A task that declares its official split as divided passes: there the groups are right and the split is known not to be.

    Args:
        task: The declaration.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        dataset: What `task.load` gave.

    Raises:
        UsageError: `HZ-E37`.
    """
    from histozoo.task_columns import column

    names = list(dataset["file"][:])
    part_N = parts(column(task, data_root, dataset, names, "split"))
    if "train" not in part_N:
        return
    where = f"{task.folder}, column split"
    if not task.split_divides_groups:
        _refuse_divided(where, part_N, [str(group) for group in dataset["group"][:]])
    found: dict[str, set[int]] = defaultdict(set)
    for part, label in zip(part_N, dataset["label"][:], strict=True):
        found[part].add(label)
    _warn_missing(where, found, task.classes)


def parts(words: list[str]) -> list[str]:
    """Returns train, val or test for words such as stage1_train or testA; another word stays what it is."""
    from histozoo.prepare.layouts.tile_table import split_words

    known = {word: split_words([word]).get(word, word) for word in set(words)}
    return [known[word] for word in words]


def _refuse_divided(where: str, part_N: list[str], group_N: list[str]) -> None:
    of_group: dict[str, set[str]] = defaultdict(set)
    for group, part in zip(group_N, part_N, strict=True):
        if part:
            of_group[group].add(part)
    divided = {group: sorted(found) for group, found in of_group.items() if len(found) > 1}
    if not divided:
        return
    shown = ", ".join(f"{g!r} in {' and '.join(found)}" for g, found in list(divided.items())[:_SHOWN])
    raise UsageError(
        "HZ-E37",
        "a group is in two parts of the split that the table names",
        where=where,
        expected="each patient, slide or photograph in one part",
        got=f"{len(divided)} of {len(of_group)} groups: {shown}" + (", ..." if len(divided) > _SHOWN else ""),
        kept="nothing was measured",
        next_step="correct the groups or the split; or empty the column split, since folds and splits are dealt by group here",
    )


def _warn_missing(where: str, found: Mapping[str, set[int]], classes: tuple[str, ...]) -> None:
    for part, labels in found.items():
        absent = [word for label, word in enumerate(classes) if label not in labels]
        if part and absent:
            warnings.warn(
                f"HZ-E36 {where}: no tile of {', '.join(absent)} in {part}. Nothing is scored on this split, "
                "folds and splits are dealt anew by group; a score on it could not be compared.",
                stacklevel=2,
            )
