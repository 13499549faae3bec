"""The cluster bootstrap that every interval rests on: whole groups are drawn with replacement, never tiles.

A metric is a function of how often each group was drawn: `counts_BG -> values_BM`. The draws depend on the number of groups and the seed
alone, so metrics and models measured on the same groups with the same seed are measured on the same resamples, and their differences are
paired. Percentile intervals (Efron and Tibshirani 1993, chapter 13), which are too narrow in three cases; benchmarks/auroc.txt tells by
how much. With few groups, as of every bootstrap; for a metric close to its end, such as an AUROC above 0.9; and for predictions pooled over
folds: the classifiers of two folds share most of their training rows, so their errors go together, and no resampling of predictions can
see that. `over_folds` allows for it. A test split of groups of its own has no such flaw. numpy only.

Shapes: N tiles, G groups, M models compared, R resamples, B of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histozoo.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Names = Sequence[str] | NDArray[Any]
Metric = Callable[[Floats], Floats]
"""How often each group was drawn, `[B, G]` -> the metric of each model, `[B, M]`, NaN where it is undefined."""

LEVEL = 0.95
_ENTRIES_AT_ONCE = 128_000  # 1 MB of float64: a block and what is derived from it stay in the cache


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval.

    Args:
        value: The metric on all tiles.
        low, high: Ends of the interval, by percentiles of resamples where nothing else is said.
        n: Tiles.
        n_groups: Groups, the unit resampled.
        resamples: Resamples drawn.
        undefined: How many of them lacked a class and were left out.
    """

    value: float
    low: float
    high: float
    n: int
    n_groups: int
    resamples: int
    undefined: int

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        return self.low, self.high


def draws(groups: int, *, seed: int, resamples: int, at_once: int) -> Iterator[Floats]:
    """Gives how often each of G groups is in each resample, `[B, G]`, B at most `at_once`, R in all; the same for every `at_once`."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn_BG = generator.integers(groups, size=(size, groups))
        drawn_BG += np.arange(size)[:, None] * groups
        yield np.bincount(drawn_BG.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)


def resample(metric: Metric, groups: int, *, width: int, seed: int, resamples: int) -> Floats:
    """Returns the metric of M models on R resamples of G groups, `[R, M]`.

    Args:
        metric: Function of the draws.
        groups: G.
        width: Numbers that `metric` holds per resample; bounds the memory.
        seed: Seed of the draws.
        resamples: R.
    """
    at_once = max(1, _ENTRIES_AT_ONCE // max(width, groups))
    blocks = draws(groups, seed=seed, resamples=resamples, at_once=at_once)
    return np.concatenate([metric(counts_BG) for counts_BG in blocks])


def over_folds(
    values_M: ArrayLike, resampled_RM: Floats, fold_N: ArrayLike | None, *, bounds: tuple[float, float]
) -> Floats:
    """Returns resampled values spread as far as predictions pooled over folds need it; those of a split (one fold, or None) as they are.

    Distances from the value grow by sqrt(1 + F n_test / n_train), 1.5 for five folds: Nadeau and Bengio (2003, "Inference for the
    generalization error", section 3) correct the variance of a mean over F folds from S / F to (1 / F + n_test / n_train) S, since training
    sets that overlap make folds go together. They did so for folds drawn at random and a variance over folds; that it serves a bootstrap
    over groups as well was found by simulation (`python benchmarks/auroc.py --coverage 1000`), for values as for paired differences.

    Args:
        values_M: The metric of M models on all tiles.
        resampled_RM: The same on resamples.
        fold_N: The fold that held each tile out.
        bounds: Least and largest value that the metric can have; nothing is spread beyond.
    """
    _, sizes_F = np.unique([0] if fold_N is None else np.asarray(fold_N), return_counts=True)
    if len(sizes_F) < 2:
        return resampled_RM
    test_to_train = float(np.mean(sizes_F / (sizes_F.sum() - sizes_F)))
    value_M = np.asarray(values_M, dtype=np.float64)
    spread_RM = value_M + math.sqrt(1 + len(sizes_F) * test_to_train) * (resampled_RM - value_M)
    kept_RM: Floats = np.clip(spread_RM, *bounds)
    return kept_RM


def percentiles(values_R: Floats) -> tuple[float, float]:
    """Returns the ends of the central 95 % of the defined values.

    Raises:
        UsageError: `HZ-I62`, more than half of the resamples are undefined.
    """
    defined = values_R[~np.isnan(values_R)]
    if 2 * len(defined) < len(values_R):
        raise UsageError(
            "HZ-I62",
            "the interval is undefined: most resamples lack a class",
            expected="a class in enough groups that at least half of the resamples hold it",
            got=f"{len(defined)} of {len(values_R)} resamples defined",
            next_step="state the value without an interval, or take the rare class out of the task",
        )
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


# -- rows and groups -------------------------------------------------------------------------------------------------------------------


def same_rows(labels: int, others: int, what: str) -> None:
    """Refuses rows that cannot belong together.

    Raises:
        UsageError: `HZ-I64`, their numbers differ.
    """
    if labels != others:
        raise UsageError(
            "HZ-I64",
            f"labels and {what} are not of the same rows",
            expected=f"{labels} rows",
            got=f"{others} rows",
            next_step="join them by tile name, never by position",
        )


def class_indices(values: ArrayLike, classes: int, name: str) -> Ints:
    """Returns class indices as int64.

    Raises:
        UsageError: `HZ-I62`, one is no integer from 0 to classes - 1.
    """
    indices = np.asarray(values)
    whole = indices.dtype.kind in "iu" and bool(((indices >= 0) & (indices < classes)).all())
    if not whole:
        raise UsageError(
            "HZ-I62",
            f"{name} are no class indices",
            expected=f"integers from 0 to {classes - 1}",
            got=f"{indices.dtype} values: {', '.join(map(str, indices.ravel()[:5]))}",
        )
    return indices.astype(np.int64)


def group_indices(groups_N: Names, tiles: int) -> tuple[Ints, int]:
    """Returns the index of each tile's group, `[N]`, and the number of groups.

    Raises:
        UsageError: `HZ-I63` fewer than two groups; `HZ-I64` not one group per tile.
    """
    same_rows(tiles, len(groups_N), "groups")
    names, group_N = np.unique(np.asarray(groups_N), return_inverse=True)
    if len(names) < 2:
        raise UsageError(
            "HZ-I63",
            "an interval needs at least two groups",
            expected="2 or more groups (patients, slides, photographs)",
            got=f"{len(names)} groups, {tiles} tiles",
            next_step="state the value without an interval, or name the groups in the task",
        )
    return group_N.astype(np.int64), len(names)


def apart(train_groups: Names, test_groups: Names) -> None:
    """Refuses a group on both sides: what was learnt from its tiles would be measured on its tiles.

    Raises:
        UsageError: `HZ-I63`, with the first of the groups and how many there are.
    """
    shared = np.intersect1d(np.asarray(train_groups), np.asarray(test_groups))
    if len(shared):
        raise UsageError(
            "HZ-I63",
            "groups are on both sides of the split",
            where=f"group {', '.join(map(str, shared[:5]))}" + (" ..." if len(shared) > 5 else ""),
            expected="every group on one side",
            got=f"{len(shared)} groups with tiles on both",
            kept="nothing was scored",
            next_step="split by group; tiles of one group are never divided",
        )
