"""Which rows a classifier may learn from and which it predicts: grouped folds, or a split made before.

Shapes: N rows, F folds.
"""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.protocol import Parts
from histozoo.evaluate.resampling import apart, same_rows

Ints = NDArray[np.int64]


class Part(NamedTuple):
    """Rows to train on, to choose settings on (None: folds of the training rows), and to predict."""

    train: Ints
    val: Ints | None
    test: Ints


def parts(
    labels_N: Ints, groups_N: NDArray[Any], *, seed: int, folds: int, split: Parts | None = None
) -> list[Part]:
    """Returns one part per fold, or the split's only one.

    Raises:
        UsageError: `HZ-I62` a class would be missing from training or test rows; `HZ-I63` fewer groups than folds, or a group on two sides
            of the split; `HZ-I64` rows differ, or the split names a row that is not there.
    """
    same_rows(len(labels_N), len(groups_N), "groups")
    if split is None:
        fold_N = grouped_folds(labels_N, groups_N, seed=seed, folds=folds)
        return [Part(np.flatnonzero(fold_N != f), None, np.flatnonzero(fold_N == f)) for f in range(folds)]
    train, val, test = (np.asarray(rows, dtype=np.int64) for rows in (split.train, split.val, split.test))
    _inside(np.concatenate([train, val, test]), len(labels_N))
    for first, second in combinations((train, val, test), 2):
        apart(groups_N[first], groups_N[second])
    _same_classes(labels_N, train, test)
    return [Part(train, val if len(val) else None, test)]


def grouped_folds(labels_N: Ints, groups_N: NDArray[Any], *, seed: int, folds: int) -> Ints:
    """Returns the fold of each row: groups whole, classes spread as evenly as they allow, every class outside every fold.

    Raises:
        UsageError: `HZ-I62` a fold would take away every tile of a class; `HZ-I63` fewer groups than folds; `HZ-I64` rows differ.
    """
    same_rows(len(labels_N), len(groups_N), "groups")
    if len(np.unique(labels_N)) < 2:
        raise UsageError(
            "HZ-I62",
            "a single class cannot be scored",
            expected="rows of at least two classes",
            got=f"{len(np.unique(labels_N))} classes, {len(labels_N)} rows",
            next_step="add groups of another class: nothing can be told apart here",
        )
    n_groups = len(np.unique(groups_N))
    if n_groups < folds:
        raise UsageError(
            "HZ-I63",
            f"fewer groups than the {folds} folds",
            expected=f"at least {folds} groups",
            got=f"{n_groups} groups, {len(labels_N)} tiles",
            next_step="use fewer folds; tiles of one group are never divided between folds",
        )
    fold_N = stratified(labels_N, groups_N, seed=seed, folds=folds)
    for fold in range(folds):
        absent = np.setdiff1d(labels_N, labels_N[fold_N != fold])
        if len(absent):
            raise UsageError(
                "HZ-I62",
                "a class would be missing from the training rows of a fold",
                where=f"fold {fold}, class index {', '.join(map(str, absent))}",
                expected="every class in at least two groups",
                got=f"{len(np.unique(groups_N[np.isin(labels_N, absent)]))} groups hold it",
                next_step="use fewer folds, or take the class out of the task",
            )
    return fold_N


def inner_folds(labels_N: Ints, groups_N: NDArray[Any], *, seed: int, folds: int) -> Ints:
    """Returns folds of training rows to choose a setting by, fewer than asked for where there are fewer groups.

    A training part may lack a rare class, which is then never predicted there: that is scored as it is, for every setting alike.

    Raises:
        UsageError: `HZ-I63`, the rows are of one group.
    """
    groups = len(np.unique(groups_N))
    if groups < 2:
        raise UsageError(
            "HZ-I63",
            "a setting cannot be chosen by folds of a single group",
            expected="training rows of at least 2 groups",
            got=f"{groups} groups, {len(labels_N)} training rows",
            next_step="give validation rows, or a single setting",
        )
    return stratified(labels_N, groups_N, seed=seed, folds=min(folds, groups))


def stratified(labels_N: Ints, groups_N: NDArray[Any], *, seed: int, folds: int) -> Ints:
    """Returns the fold of each row, groups whole and classes spread; nothing is checked."""
    from sklearn.model_selection import StratifiedGroupKFold

    fold_N = np.empty(len(labels_N), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer tiles than folds is in order here: what it needs is checked by the caller, group by group.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, rows) in enumerate(splitter.split(labels_N, labels_N, groups_N)):
            fold_N[rows] = fold
    return fold_N


def _inside(rows: Ints, tiles: int) -> None:
    if len(rows) and not (rows.min() >= 0 and rows.max() < tiles):
        raise UsageError(
            "HZ-I64",
            "the split names rows that are not there",
            expected=f"rows from 0 to {tiles - 1}",
            got=f"rows from {rows.min()} to {rows.max()}",
            next_step="take the split that belongs to this data",
        )


def _same_classes(labels_N: Ints, train: Ints, test: Ints) -> None:
    for rows, what in ((train, "training"), (test, "test")):
        absent = np.setdiff1d(labels_N[np.concatenate([train, test])], labels_N[rows])
        if len(absent):
            raise UsageError(
                "HZ-I62",
                f"the {what} rows of the split lack a class",
                where=f"class index {', '.join(map(str, absent))}",
                expected="every class in training and test rows",
                got=f"{len(rows)} {what} rows without it",
                next_step="take the class out of the task, or use folds",
            )
