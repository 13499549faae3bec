"""A part of the labels, drawn group by group: smaller parts lie inside larger ones, and every part shows every class.

Shapes: N tiles, G groups, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Ints

_ATTEMPTS = 32


def label_fraction(
    labels_N: Ints, groups_N: NDArray[Any], rows: Ints, *, fraction: float, seed: int
) -> tuple[Ints, float]:
    """Returns the rows to train on, sorted, and the share of `rows` that they are.

    The groups are put in one random order that begins with some that hold every class; a fraction takes as many from its beginning as come
    nearest to it. So for equal rows and seed a smaller fraction is contained in a larger one. Of several orders the one is taken whose
    beginning is smallest, so that small fractions are possible.

    Args:
        labels_N: Class indices of all tiles.
        groups_N: The group of each.
        rows: The rows that may be trained on.
        fraction: Share of `rows` wanted, above 0 and at most 1.
        seed: Draws the order of the groups.

    Raises:
        UsageError: `HZ-I68`, no share, no rows, or smaller than the smallest part that holds every class, which is named.
    """
    rows = np.sort(np.asarray(rows, dtype=np.int64))
    if not (0 < fraction <= 1) or len(rows) == 0:
        raise UsageError(
            "HZ-I68",
            "this is no share of the training rows",
            expected="a number above 0 and at most 1, of one row or more",
            got=f"fraction {fraction}, {len(rows)} rows",
        )
    names, group_N = np.unique(np.asarray(groups_N)[rows], return_inverse=True)
    _, class_N = np.unique(labels_N[rows], return_inverse=True)
    counts_GK = np.zeros((len(names), int(class_N.max()) + 1), dtype=np.int64)
    np.add.at(counts_GK, (group_N, class_N), 1)
    order, needed = _order(counts_GK, seed)
    shares_G = np.cumsum(counts_GK.sum(1)[order]) / len(rows)
    smallest = float(shares_G[needed - 1])
    if fraction < smallest:
        raise _too_small(fraction, smallest, needed, counts_GK)
    # argmin takes the first of equals: the smaller part.
    count = needed + int(np.argmin(np.abs(shares_G[needed - 1 :] - fraction)))
    return rows[np.isin(group_N, order[:count])], float(shares_G[count - 1])


def _order(counts_GK: Ints, seed: int) -> tuple[Ints, int]:
    """Returns the groups in their order, and how many of the first ones are needed for every class."""
    sizes_G, best = counts_GK.sum(1), None
    for attempt in range(_ATTEMPTS):
        shuffled = np.random.default_rng([seed, attempt]).permutation(len(counts_GK))
        cover = _cover(counts_GK[shuffled] > 0)
        tiles = int(sizes_G[shuffled[cover]].sum())
        if best is None or tiles < best[0]:
            best = tiles, np.concatenate([shuffled[cover], np.delete(shuffled, cover)]), len(cover)
    assert best is not None
    return best[1], best[2]


def _cover(holds_GK: NDArray[np.bool_]) -> list[int]:
    """Returns positions of groups that hold every class: each that brings a new one, less those that later ones made needless."""
    seen_K, chosen = np.zeros(holds_GK.shape[1], dtype=np.bool_), []
    for g, holds_K in enumerate(holds_GK):
        if (holds_K & ~seen_K).any():
            chosen.append(g)
            seen_K |= holds_K
    for g in list(chosen):
        others = [c for c in chosen if c != g]
        if others and holds_GK[others].any(0).all():
            chosen = others
    return chosen


def _too_small(fraction: float, smallest: float, groups: int, counts_GK: Ints) -> UsageError:
    # Rounded up, so that the number named is one that works.
    possible = math.ceil(smallest * 1e4) / 1e4
    return UsageError(
        "HZ-I68",
        "so small a share of the labels cannot hold every class without dividing a group",
        expected=f"a fraction of at least {possible:g}: {groups} of {len(counts_GK)} groups hold every class",
        got=f"{fraction:g} of {counts_GK.sum():,} tiles",
        kept="nothing was trained",
        next_step=f"take the fraction {possible:g} or more, or a task of more and smaller groups",
    )
