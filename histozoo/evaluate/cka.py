"""Linear centred kernel alignment (CKA) of two sets of features of the same tiles: unbiased by default, streamed, O(d^2) memory.

CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) with linear kernels (Kornblith et al., "Similarity of neural network
representations revisited", ICML 2019). Both estimators of HSIC are in hsic.py; with the biased one, CKA of independent features is
far above 0 where n is not far above d, and falls with n. Neither a rotation of the features, nor a shift, nor a common scale
changes CKA.

Shapes: N tiles, B batch, D E features, L M blocks of the left and right model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.hsic import ROWS, Batch, Side, Sums, enough, unlike
from histozoo.evaluate.resampling import Floats, same_rows


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """CKA between blocks.

    Args:
        left: Names of the left model's blocks.
        right: Names of the right model's blocks.
        values_LM: CKA of each pair, at most 1; unbiased estimates of unrelated features lie around 0 on both sides.
        n: Tiles.
        unbiased: Which estimator.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    values_LM: Floats
    n: int
    unbiased: bool


def cka(x_ND: NDArray[Any], y_NE: NDArray[Any], *, unbiased: bool = True) -> float:
    """Returns the linear CKA of two sets of features of the same tiles.

    Args:
        x_ND: Features of one model; products are taken in float32, or in float64 if they are float64.
        y_NE: Features of the other, row by row of the same tiles.
        unbiased: False for the biased estimator, whose value depends on the number of tiles.

    Raises:
        UsageError: `HZ-I73` fewer than four tiles, or features that do not vary; `HZ-I64` rows differ.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    same_rows(len(x_ND), len(y_NE), "features")
    found = similarity(
        ({"left": x_ND[i : i + ROWS]} for i in range(0, len(x_ND), ROWS)),
        ({"right": y_NE[i : i + ROWS]} for i in range(0, len(y_NE), ROWS)),
        unbiased=unbiased,
    )
    return float(found.values_LM[0, 0])


def similarity(left: Iterable[Batch], right: Iterable[Batch], *, unbiased: bool = True) -> Similarity:
    """Returns CKA of every left block with every right block; memory does not grow with the number of tiles.

    Args:
        left: Batches block -> `[B, D]`, such as `blocks.stream` gives.
        right: Batches of the same tiles in the same order.
        unbiased: Which estimator.

    Raises:
        UsageError: `HZ-I73` too few tiles, or features that do not vary; `HZ-I64` the two are not of the same tiles.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    one, other = Side(), Side()
    crosses: dict[tuple[str, str], Sums] = {}
    for batch_left, batch_right in _together(left, right):
        x, y = one.take(batch_left), other.take(batch_right)
        for a, b in product(x, y):
            crosses.setdefault((a, b), Sums()).add(x[a], y[b])
    n = one.rows
    enough(n, unbiased=unbiased)
    roots_L = np.sqrt([one.alone[a].varying(a, unbiased=unbiased) for a in one.alone])
    roots_M = np.sqrt([other.alone[b].varying(b, unbiased=unbiased) for b in other.alone])
    hsic_LM = np.array([[crosses[a, b].hsic(unbiased=unbiased) for b in other.alone] for a in one.alone])
    return Similarity(
        left=tuple(one.alone),
        right=tuple(other.alone),
        values_LM=hsic_LM / roots_L[:, None] / roots_M,
        n=n,
        unbiased=unbiased,
    )


def _together(left: Iterable[Batch], right: Iterable[Batch]) -> Iterator[tuple[Batch, Batch]]:
    """Gives batches of both sides, at least `ROWS` tiles at once: adding up d x d products costs as much as a few hundred tiles."""
    waiting: list[tuple[Batch, Batch]] = []
    rows = 0
    try:
        for pair in zip(left, right, strict=True):
            sizes = {len(f_BD) for batch in pair for f_BD in batch.values()}
            if len(sizes) != 1:
                raise unlike(
                    "batches of equal length",
                    f"{sorted(sizes)} rows",
                    "the two sides are not of the same tiles",
                )
            waiting.append(pair)
            rows += sizes.pop()
            if rows >= ROWS:
                yield _joined(waiting)
                waiting, rows = [], 0
    except ValueError as error:
        if isinstance(error, UsageError) or "zip()" not in str(error):
            raise
        raise unlike(
            "as many batches left as right", str(error), "the two sides are not of the same tiles"
        ) from error
    if waiting:
        yield _joined(waiting)


def _joined(waiting: Sequence[tuple[Batch, Batch]]) -> tuple[Batch, Batch]:
    if len(waiting) == 1:
        return waiting[0]
    left, right = ([pair[side] for pair in waiting] for side in (0, 1))
    return _stacked(left), _stacked(right)


def _stacked(batches: Sequence[Batch]) -> Batch:
    if any(set(b) != set(batches[0]) for b in batches):
        raise unlike(", ".join(batches[0]), "others", "a batch has other blocks than the first")
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
