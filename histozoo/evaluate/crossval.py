"""A family of classifiers with one setting, measured on features: the setting is chosen without the rows that are predicted.

What the protocols on features share, whatever classifier they take: features checked once, groups whole, the setting by inner grouped
folds of the training rows (or by a split's validation rows), one prediction per row.

Shapes: N rows, M rows asked about, D features, K classes, S settings, F folds.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.folds import Part, inner_folds, parts
from histozoo.evaluate.protocol import Parts, Predictions
from histozoo.evaluate.resampling import same_rows
from histozoo.evaluate.statistics import accuracy, balanced_accuracy

Ints = NDArray[np.int64]
Features = NDArray[Any]


class Scorer(typing.Protocol):
    """Learns from rows and scores others, once for each setting."""

    def __call__(
        self, f_ND: Features, index_N: Ints, query_MD: Features, *, settings: Sequence[float]
    ) -> Iterator[tuple[float, NDArray[Any]]]:
        """Gives (setting, scores `[M, K]`) in any order; `index_N` counts the K classes of the training rows without gaps."""
        ...


@dataclass(frozen=True, kw_only=True)
class Family:
    """Classifiers that differ in one setting.

    Args:
        scorer: Trains and scores.
        settings: Values to choose from; among equals the first wins.
        probabilities: Whether the scores are probabilities.
        inner: Folds of the training rows that the setting is chosen by.
        balanced: Whether the setting is chosen by balanced accuracy, else by accuracy.
        merge_val: Whether a split's validation rows are training rows, and the setting is chosen by folds of both.
    """

    scorer: Scorer
    settings: tuple[float, ...]
    probabilities: bool
    inner: int = 3
    balanced: bool = True
    merge_val: bool = False


def predictions(
    family: Family,
    f_ND: Features,
    labels_N: Ints,
    groups_N: Sequence[str] | NDArray[Any],
    *,
    seed: int,
    folds: int = 5,
    split: Parts | None = None,
) -> Predictions:
    """Predicts every row once by a classifier that saw no row of its group, or the test rows of a split.

    Raises:
        UsageError: `HZ-I62` to `HZ-I64`, see `folds.parts`; `HZ-U50` no setting to choose from; and what the family raises.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    f_ND, labels_N, groups_N = checked(f_ND, labels_N, groups_N)
    each = parts(labels_N, groups_N, seed=seed, folds=folds, split=split)
    return predicted(family, f_ND, labels_N, groups_N, seed=seed, each=each)


def checked(
    f_ND: Features, labels_N: Ints, groups_N: Sequence[str] | NDArray[Any]
) -> tuple[Features, Ints, NDArray[Any]]:
    """Returns the three as arrays.

    Raises:
        UsageError: `HZ-I64`, rows differ.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    f_ND, labels_N = np.asarray(f_ND), np.asarray(labels_N, dtype=np.int64)
    check_finite(f_ND)
    same_rows(len(labels_N), len(f_ND), "features")
    return f_ND, labels_N, np.asarray(groups_N)


def predicted(
    family: Family,
    f_ND: Features,
    labels_N: Ints,
    groups_N: NDArray[Any] | None,
    *,
    seed: int,
    each: Sequence[Part],
) -> Predictions:
    """Predicts the test rows of each part; `groups_N` may be None where every part has validation rows."""
    if not family.settings:
        raise UsageError("HZ-U50", "no setting to choose from", expected="at least one positive number")
    classes = int(labels_N.max()) + 1
    rows, fold_N, scores, chosen = [], [], [], []
    for fold, part in enumerate(each):
        if family.merge_val and part.val is not None:
            part = Part(np.concatenate([part.train, part.val]), None, part.test)
        setting = _choose(family, f_ND, labels_N, groups_N, part, seed=seed)
        [(_, scores_MK)] = _scores(family, f_ND, labels_N, part.train, part.test, (setting,), classes)
        rows.append(part.test)
        fold_N.append(np.full(len(part.test), fold, dtype=np.int64))
        scores.append(scores_MK)
        chosen.append(setting)
    return collected(rows, fold_N, scores, chosen, probabilities=family.probabilities)


def collected(
    rows: Sequence[Ints],
    folds: Sequence[Ints],
    scores: Sequence[NDArray[Any]],
    chosen: Sequence[float],
    *,
    probabilities: bool,
) -> Predictions:
    """Puts folds together: in the order of the rows where there are several, in the split's own where there is one."""
    # Rounded first, so that the guess is the class with the highest score as stored.
    rows_N, scores_NK = np.concatenate(rows), np.concatenate(scores).astype(np.float32)
    order_N = np.argsort(rows_N, kind="stable") if len(rows) > 1 else np.arange(len(rows_N))
    return Predictions(
        rows_N=rows_N[order_N],
        guesses_N=scores_NK.argmax(1).astype(np.int64)[order_N],
        fold_N=np.concatenate(folds)[order_N],
        c_F=tuple(chosen),
        scores_NK=scores_NK[order_N],
        probabilities=probabilities,
    )


def _choose(
    family: Family,
    f_ND: Features,
    labels_N: Ints,
    groups_N: NDArray[Any] | None,
    part: Part,
    *,
    seed: int,
) -> float:
    """Returns the setting with the best score on the validation rows or over the inner folds, all rows pooled."""
    settings, classes = family.settings, int(labels_N.max()) + 1
    if part.val is not None:
        asked, pairs = part.val, [(part.train, part.val)]
    elif len(settings) == 1 or groups_N is None:
        return settings[0]
    else:
        asked, train = part.train, part.train
        fold_N = inner_folds(labels_N[train], groups_N[train], seed=seed, folds=family.inner)
        pairs = [(train[fold_N != f], train[fold_N == f]) for f in range(int(fold_N.max()) + 1)]
    guesses = {setting: np.full(len(labels_N), -1, dtype=np.int64) for setting in settings}
    for train, held_out in pairs:
        for setting, scores_MK in _scores(family, f_ND, labels_N, train, held_out, settings, classes):
            guesses[setting][held_out] = scores_MK.argmax(1)
    metric = balanced_accuracy if family.balanced else accuracy
    values = [metric(labels_N[asked], guesses[setting][asked], classes) for setting in settings]
    return settings[int(np.argmax(values))]


def _scores(
    family: Family,
    f_ND: Features,
    labels_N: Ints,
    train: Ints,
    asked: Ints,
    settings: Sequence[float],
    classes: int,
) -> Iterator[tuple[float, NDArray[Any]]]:
    """Gives (setting, scores of all classes); one that the training rows lack has probability 0 or a score below all others."""
    known_K, index_N = np.unique(labels_N[train], return_inverse=True)
    for setting, found_MK in family.scorer(f_ND[train], index_N, f_ND[asked], settings=settings):
        lowest = 0.0 if family.probabilities or not len(found_MK) else float(found_MK.min()) - 1
        scores_MK = np.full((len(found_MK), classes), lowest)
        scores_MK[:, known_K] = found_MK
        yield setting, scores_MK


def check_finite(f_ND: NDArray[Any]) -> None:
    """Refuses features that are not finite: a NaN row is nobody's neighbour and everybody's, depending on the library.

    Raises:
        IntegrityError: `HZ-I62`, with the number of bad rows and the first five.
    """
    bad = np.flatnonzero(~np.isfinite(f_ND).all(1))
    if len(bad):
        raise IntegrityError(
            "HZ-I62",
            "features are not finite",
            where=f"rows {', '.join(map(str, bad[:5]))}" + (" ..." if len(bad) > 5 else ""),
            expected=f"{len(f_ND)} finite rows",
            got=f"{len(bad)} rows with NaN or infinity",
            kept="nothing was scored",
            next_step="run `histozoo verify` on the model; a float16 overflow shows like this too",
        )
