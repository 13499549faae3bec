"""Which pictures train and which test, by group; and training sets of growing size, each inside the next.

Shapes: N pictures, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Ints
from histozoo.evaluate.segment.pictures import Pictures

_ATTEMPTS = 32


def split(pictures: Pictures, *, test: float, seed: int) -> tuple[Ints, Ints]:
    """Returns the rows to train on and the rows to test on; no group is in both.

    Groups are shuffled and dealt to the test until its share of the pictures is nearest to the one asked for; of several shuffles the
    nearest is kept.

    Args:
        pictures: All pictures of a set.
        test: Share of the pictures to test on, between 0 and 1.
        seed: Draws the order of the groups.

    Raises:
        UsageError: `HZ-U36` the share leaves a part empty; `HZ-I63` fewer than three groups: one to train on, two for an interval.
    """
    if not 0 < test < 1:
        raise UsageError(
            "HZ-U36", "the share leaves a part empty", expected="a number between 0 and 1", got=test
        )
    names, group_N = np.unique(pictures.groups_N, return_inverse=True)
    if len(names) < 3:
        raise UsageError(
            "HZ-I63",
            "too few groups to train on some and test on others",
            where=pictures.name,
            expected="3 groups or more: one to train on, two for an interval",
            got=f"{len(names)} groups, {len(pictures)} pictures",
        )
    shares_G = np.bincount(group_N) / len(group_N)
    deals = [_deal(shares_G, test, np.random.default_rng([seed, attempt])) for attempt in range(_ATTEMPTS)]
    _, tested_G = min(deals, key=lambda deal: deal[0])
    tested_N = tested_G[group_N]
    return np.flatnonzero(~tested_N), np.flatnonzero(tested_N)


def _deal(
    shares_G: NDArray[np.float64], test: float, random: np.random.Generator
) -> tuple[float, NDArray[np.bool_]]:
    """Returns how far the test's share is from the one asked for, and which groups are in it."""
    order = random.permutation(len(shares_G))
    reached = np.cumsum(shares_G[order])[1:-1]  # two groups or more, and never all
    count = int(np.argmin(np.abs(reached - test))) + 2
    tested_G = np.zeros(len(shares_G), dtype=np.bool_)
    tested_G[order[:count]] = True
    return float(abs(reached[count - 2] - test)), tested_G


def nested(
    pictures: Pictures, rows: Ints, *, sizes: Sequence[int], seed: int, per_group: int | None = None
) -> dict[int, Ints]:
    """Returns size -> rows to train on, each smaller set contained in the larger ones.

    Groups are put in a random order that begins with one whose pictures show both an object and background, so that every set can be
    learnt from; a set of size k holds the pictures of the first k groups.

    Args:
        pictures: The set.
        rows: The rows that may be trained on.
        sizes: Numbers of groups, ascending.
        seed: Draws the order of the groups and, with `per_group`, of the pictures in each.
        per_group: Pictures taken of each group at most; those that show both come first. None takes all.

    Raises:
        UsageError: `HZ-I63` a size that the groups do not give; `HZ-I69` no picture shows both an object and background.
    """
    rows = np.asarray(rows, dtype=np.int64)
    names, group_N = np.unique(pictures.groups_N[rows], return_inverse=True)
    _check_sizes(pictures.name, sizes, len(names), per_group)
    both_N = np.array([_shows_both(pictures.masks[r]) for r in rows])
    if not both_N.any():
        raise UsageError(
            "HZ-I69",
            "no training picture shows both an object and background",
            where=pictures.name,
            expected="one picture or more with both",
            got=f"{len(rows)} pictures",
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(names))
    useful = [g for g in order if both_N[group_N == g].any()]
    order = np.array([useful[0], *(g for g in order if g != useful[0])])
    # Every group's pictures are drawn before any size is looked at: a size must not change what the others hold.
    drawn = {int(g): _drawn(np.flatnonzero(group_N == g), both_N, random) for g in range(len(names))}
    return {
        size: np.sort(np.concatenate([rows[drawn[int(g)][:per_group]] for g in order[:size]]))
        for size in sizes
    }


def _drawn(members: Ints, both_N: NDArray[np.bool_], random: np.random.Generator) -> Ints:
    """Returns a group's pictures in random order, those that show both first."""
    shuffled = random.permutation(members)
    return shuffled[np.argsort(~both_N[shuffled], kind="stable")]


def _shows_both(mask_HW: NDArray[np.int64]) -> bool:
    object_HW = mask_HW > 0
    return bool(object_HW.any() and not object_HW.all())


def _check_sizes(name: str, sizes: Sequence[int], groups: int, per_group: int | None) -> None:
    good = len(sizes) > 0 and all(a < b for a, b in pairwise(sizes))
    if not good or min(sizes) < 1 or max(sizes) > groups or (per_group is not None and per_group < 1):
        raise UsageError(
            "HZ-I63",
            "training sets of these sizes cannot be drawn",
            where=name,
            expected=f"ascending numbers of groups from 1 to {groups}, and at least one picture of each",
            got=f"sizes {', '.join(map(str, sizes)) or 'none'}; {per_group or 'all'} pictures of each group",
        )
