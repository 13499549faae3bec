"""Tiles that show the same picture, within tasks and across them: equal pixels, re-encoded or turned by quarters, turned by any angle.

Three searches, each with what it guarantees:

- `exact`: equal decoded pixels, by sha256. Finds all of them.
- `near`: the pairs of `histozoo.data.duplicates.find_duplicates`, all of them, in blocks that fit a processor's cache and with the grain
  of candidates only: a fraction of its time and memory. Still N^2 comparisons of 64 bits for each of 8 symmetries.
- `histozoo.data.rings.find_turned`: turned by any angle, mirrored, enlarged; each tile against the six most like it.

Shapes: N tiles, P pairs, h w of a thumbnail, C colours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from histozoo.data.duplicates import (
    MAX_HASH_BITS,
    NEAR,
    SAME,
    Likeness,
    colour_difference,
    difference_hashes,
    grain_correlation,
    grain_of,
    quarter_turned,
)

Pairs = NDArray[np.int64]

_ROWS, _COLUMNS = 32, 8192  # 2 MB of 64-bit words: stays in the cache of a processor
_AT_ONCE = 4096
TURNS = 8
"""Symmetries of a square: quarter turns, plain and mirrored."""


def exact(hashes: Sequence[str]) -> Pairs:
    """Returns each row that has the hash of an earlier row, with the first such row; int64 `[P, 2]`, sorted."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(hashes):
        rows[name].append(row)
    pairs = [(same[0], later) for same in rows.values() for later in same[1:]]
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def near(
    thumbs_NhwC: NDArray[np.uint8], *, least: Likeness = NEAR, on_turn: Callable[[], None] = lambda: None
) -> Pairs:
    """Returns what `find_duplicates` returns for the same thumbnails, in less memory and time.

    Args:
        thumbs_NhwC: uint8 RGB `[N, 32, 32, 3]`.
        least: How alike the tiles of a pair are at least.
        on_turn: Called after each of the `TURNS` ways to lay one tile upon another.

    Returns:
        int64 `[P, 2]`, the smaller row first, sorted.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    hashes_N = _hashes(thumbs_NhwC, 0)
    for turn in range(TURNS):
        turned_N = hashes_N if turn == 0 else _hashes(thumbs_NhwC, turn)
        for pairs in _alike(hashes_N, turned_N):
            found.append(pairs[_same(thumbs_NhwC, pairs, turn, least)])
        on_turn()
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def same_picture(thumbs_NhwC: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.bool_]:
    """Returns which pairs are one picture beyond doubt (`SAME`), under one of the eight symmetries."""
    one_P = np.zeros(len(pairs), dtype=bool)
    for turn in range(TURNS):
        one_P |= _same(thumbs_NhwC, pairs, turn, SAME)
    return one_P


def _hashes(thumbs_NhwC: NDArray[np.uint8], turn: int) -> NDArray[np.uint64]:
    blocks = [
        difference_hashes(quarter_turned(thumbs_NhwC[i : i + _AT_ONCE].astype(np.float32), turn))
        for i in range(0, len(thumbs_NhwC), _AT_ONCE)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.uint64)


def _alike(first_N: NDArray[np.uint64], second_N: NDArray[np.uint64]) -> Iterator[Pairs]:
    """Yields pairs of rows, the first smaller, whose hashes differ in few bits."""
    words, counts = np.empty((_ROWS, _COLUMNS), np.uint64), np.empty((_ROWS, _COLUMNS), np.uint8)
    waiting: list[Pairs] = []
    for row in range(0, len(first_N), _ROWS):
        a_N1 = first_N[row : row + _ROWS, None]
        for column in range(row, len(second_N), _COLUMNS):
            b_1N = second_N[None, column : column + _COLUMNS]
            word, count = words[: len(a_N1), : b_1N.shape[1]], counts[: len(a_N1), : b_1N.shape[1]]
            np.bitwise_xor(a_N1, b_1N, out=word)
            np.bitwise_count(word, out=count)
            if count.min() <= MAX_HASH_BITS:
                a, b = np.nonzero(count <= MAX_HASH_BITS)
                pairs = np.stack([a + row, b + column], axis=1)
                waiting.append(pairs[pairs[:, 0] < pairs[:, 1]])
        if sum(map(len, waiting)) > _AT_ONCE:
            yield from _cut(waiting)
            waiting = []
    yield from _cut(waiting)


def _cut(waiting: list[Pairs]) -> Iterator[Pairs]:
    if waiting:
        pairs = np.concatenate(waiting)
        yield from (pairs[i : i + _AT_ONCE] for i in range(0, len(pairs), _AT_ONCE))


def _same(thumbs_NhwC: NDArray[np.uint8], pairs: Pairs, turn: int, least: Likeness) -> NDArray[np.bool_]:
    """Returns which pairs agree in grain and colour, the second tile turned."""
    good_P = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), _AT_ONCE):
        block = pairs[start : start + _AT_ONCE]
        first = thumbs_NhwC[block[:, 0]].astype(np.float32)
        second = quarter_turned(thumbs_NhwC[block[:, 1]].astype(np.float32), turn)
        rows = np.repeat(np.arange(len(block))[:, None], 2, axis=1)
        alike = np.flatnonzero(colour_difference(first, second, rows) <= least.difference)
        grain = grain_of(first[alike]), grain_of(second[alike])
        good = grain_correlation(*grain, rows[: len(alike)]) >= least.correlation
        good_P[start + alike[good]] = True
    return good_P
