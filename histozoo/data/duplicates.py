"""Tiles that show the same picture: equal, re-encoded, flipped or turned by 90 degrees.

Candidates are pairs whose 64-bit difference hashes (Krawetz, "Kind of like that", 2013: the sign of neighbouring differences on a
9 x 8 grey thumbnail) differ in few bits under one of the eight symmetries of a square. A candidate counts only when its pixels agree too:
bland tiles such as single red cells have alike hashes, but not the same grain.

Shapes: N tiles, P pairs, H W C pixels of a tile, h w of a thumbnail, I its pixels in one row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError

MAX_HASH_BITS = 10
"""Most differing bits of 64 for a pair to be looked at more closely."""


@dataclass(frozen=True)
class Likeness:
    """How alike two thumbnails must be.

    Args:
        correlation: Least correlation of the grain, which is the grey thumbnail minus its blur.
        difference: Largest root mean square difference in RGB, in grey levels of 255.
    """

    correlation: float
    difference: float


# Seen on fourteen public sets (12,000 tiles): another encoding, size or quarter turn of a file stays within SAME at a JPEG quality of 85.
# Cells photographed twice correlate by 0.65 to 0.97; of pictures of different things none was above 0.65 with a difference below 20.
SAME = Likeness(correlation=0.95, difference=8.0)
NEAR = Likeness(correlation=0.65, difference=20.0)

_THUMBNAIL_PX = 32
_log = logging.getLogger(__name__)
_BLOCK = 512
_BLANK = 1e-3


def find_duplicates(tiles_NHWC: NDArray[np.uint8], *, least: Likeness = NEAR) -> NDArray[np.int64]:
    """Returns the pairs of rows that show the same picture.

    Args:
        tiles_NHWC: uint8 RGB `[N, px, px, 3]`.
        least: How alike the tiles of a pair are at least.

    Returns:
        int64 `[P, 2]`, the smaller row first, sorted; empty `[0, 2]` without duplicates.
    """
    return alike_thumbnails(thumbnails(tiles_NHWC), least=least)


def alike_thumbnails(thumbs_NhwC: NDArray[np.float32], *, least: Likeness = NEAR) -> NDArray[np.int64]:
    """Returns the pairs of `find_duplicates` from the tiles' `thumbnails`."""
    found = [np.empty((0, 2), dtype=np.int64)]
    hashes_N, grain_NI = difference_hashes(thumbs_NhwC), grain_of(thumbs_NhwC)
    for turn in range(8):
        turned_NhwC = quarter_turned(thumbs_NhwC, turn)
        turned_NI = grain_of(turned_NhwC)
        for pairs in _alike(hashes_N, difference_hashes(turned_NhwC)):
            # Cheapest first: most candidates fall at their grain.
            pairs = pairs[grain_correlation(grain_NI, turned_NI, pairs) >= least.correlation]
            found.append(pairs[colour_difference(thumbs_NhwC, turned_NhwC, pairs) <= least.difference])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def merge_duplicates(
    groups: Sequence[str], tiles_NHWC: NDArray[np.uint8], *, pairs: NDArray[np.int64] | None = None
) -> list[str]:
    """Returns the groups with those joined that share a duplicate; the joined one has the name that sorts first.

    Args:
        groups: Name of each row's group.
        tiles_NHWC: uint8 RGB `[N, px, px, 3]`.
        pairs: What `find_duplicates(tiles_NHWC)` gave, where it is known.
    """
    parent = {g: g for g in groups}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for a, b in (find_duplicates(tiles_NHWC) if pairs is None else pairs).tolist():
        first, second = sorted((root(groups[a]), root(groups[b])))
        parent[second] = first
    return [root(g) for g in groups]


def refuse_conflicts(
    tiles_NHWC: NDArray[np.uint8], labels_N: NDArray[np.int64], pairs: NDArray[np.int64], *, where: str = ""
) -> None:
    """Refuses one picture that carries two labels: one of them is wrong, and no rule says which.

    Pairs that are merely near may be two cells side by side or two photographs; they are logged, and stay in one group.

    Raises:
        UsageError: `HZ-E38`, with the number of such pairs and the first five.
    """
    conflicts = pairs[labels_N[pairs[:, 0]] != labels_N[pairs[:, 1]]]
    rows = np.unique(conflicts)
    same = rows[find_duplicates(tiles_NHWC[rows], least=SAME)] if len(rows) else conflicts
    same = same[labels_N[same[:, 0]] != labels_N[same[:, 1]]]
    if len(same):
        raise UsageError(
            "HZ-E38",
            "the same tile carries two labels",
            where=where,
            expected="one label for one picture",
            got=f"{len(same):,} pairs of rows: {_named(same, labels_N)}",
            next_step="correct the table, or take both tiles out of it",
        )
    if len(conflicts):
        _log.warning(
            "%d pairs of nearly equal tiles carry two labels: %s", len(conflicts), _named(conflicts, labels_N)
        )


def _named(pairs: NDArray[np.int64], labels_N: NDArray[np.int64]) -> str:
    return ", ".join(f"{a} (class {labels_N[a]}) = {b} (class {labels_N[b]})" for a, b in pairs[:5].tolist())


def thumbnails(tiles_NHWC: NDArray[np.uint8], px: int = _THUMBNAIL_PX) -> NDArray[np.float32]:
    """Returns area means `[N, px, px, 3]`, in grey levels, of uint8 RGB tiles `[N, H, W, 3]`."""
    found = np.empty((len(tiles_NHWC), px, px, 3), dtype=np.float32)
    rows_hH, columns_wW = _area(tiles_NHWC.shape[1], px), _area(tiles_NHWC.shape[2], px)
    for start in range(0, len(tiles_NHWC), _BLOCK):
        block = tiles_NHWC[start : start + _BLOCK].astype(np.float32)
        found[start : start + _BLOCK] = np.einsum(
            "hH,nHWc,wW->nhwc", rows_hH, block, columns_wW, optimize=True
        )
    return found


def _area(source_px: int, target_px: int) -> NDArray[np.float32]:
    """Returns the matrix `[target, source]` that averages areas, also where the sides do not divide."""
    edges = np.linspace(0, source_px, target_px + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(source_px)[None]
    covered = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, 1)
    return np.asarray(covered / covered.sum(axis=1, keepdims=True), dtype=np.float32)


def quarter_turned(x_NhwC: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """Returns one of the eight symmetries of the square.

    Args:
        x_NhwC: `[N, h, w, C]`, h equal to w.
        turn: 0 to 7: `turn % 4` quarter turns, mirrored first from 4 on.
    """
    mirrored = x_NhwC[:, :, ::-1] if turn >= 4 else x_NhwC
    return np.asarray(np.rot90(mirrored, turn % 4, axes=(1, 2)))


def difference_hashes(thumbs_NhwC: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Returns the 64-bit difference hash of each thumbnail: the signs of neighbouring differences on 8 x 9 grey means.

    Args:
        thumbs_NhwC: In grey levels `[N, px, px, 3]`.

    Returns:
        uint64 `[N]`; the number of differing bits of two says how unlike they are.
    """
    side = thumbs_NhwC.shape[1]
    small_N89 = np.einsum(
        "rh,nhw,cw->nrc", _area(side, 8), thumbs_NhwC.mean(axis=3), _area(side, 9), optimize=True
    )
    bits_N8 = np.packbits((small_N89[:, :, 1:] > small_N89[:, :, :-1]).reshape(len(small_N89), 64), axis=1)
    return bits_N8.view(np.uint64)[:, 0]


def _alike(first_N: NDArray[np.uint64], second_N: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yields pairs of rows, the first smaller, whose hashes differ in few bits; a block at a time to bound memory."""
    for start in range(0, len(first_N), _BLOCK):
        bits = np.bitwise_count(first_N[start : start + _BLOCK, None] ^ second_N[None, start:])
        a, b = np.nonzero(bits <= MAX_HASH_BITS)
        pairs = np.stack([a, b], axis=1)[a < b] + start
        yield from (pairs[i : i + 4 * _BLOCK] for i in range(0, len(pairs), 4 * _BLOCK))


def grain_of(thumbs_NhwC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the grain: grey thumbnails minus the mean of each 3 x 3 neighbourhood, what two pictures of one kind of thing do not share.

    Args:
        thumbs_NhwC: In grey levels `[N, h, w, 3]`.

    Returns:
        Unit vectors `[N, I]`, I = h x w; zero for a blank tile.
    """
    grey = np.pad(thumbs_NhwC.mean(axis=3), ((0, 0), (1, 1), (1, 1)), mode="edge")
    h, w = grey.shape[1] - 2, grey.shape[2] - 2
    blur = sum(grey[:, y : y + h, x : x + w] for y in range(3) for x in range(3)) / 9
    grain_NI = (grey[:, 1:-1, 1:-1] - blur).reshape(len(grey), h * w)
    norm_N1 = np.linalg.norm(grain_NI, axis=1, keepdims=True)
    return np.asarray(np.where(norm_N1 > _BLANK, grain_NI / np.maximum(norm_N1, _BLANK), 0), dtype=np.float32)


def grain_correlation(
    first_NI: NDArray[np.float32], second_NI: NDArray[np.float32], pairs: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Returns the correlation of each pair's grain, -1 to 1; two blank tiles correlate fully.

    Args:
        first_NI: Of `grain_of`.
        second_NI: Of `grain_of`, of the same tiles turned.
        pairs: int64 `[P, 2]`: a row of the first and a row of the second.
    """
    a_PI, b_PI = first_NI[pairs[:, 0]], second_NI[pairs[:, 1]]
    blank_P = ~(a_PI.any(axis=1) | b_PI.any(axis=1))
    return np.asarray(np.where(blank_P, 1, np.einsum("pi,pi->p", a_PI, b_PI)), dtype=np.float32)


def colour_difference(
    first_NhwC: NDArray[np.float32], second_NhwC: NDArray[np.float32], pairs: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Returns the root mean square difference of each pair in grey levels, `[P]`.

    Args:
        first_NhwC: Thumbnails in grey levels `[N, h, w, 3]`.
        second_NhwC: The same thumbnails, turned.
        pairs: int64 `[P, 2]`: a row of the first and a row of the second.
    """
    square = (first_NhwC[pairs[:, 0]] - second_NhwC[pairs[:, 1]]) ** 2
    return np.asarray(np.sqrt(square.mean(axis=(1, 2, 3))), dtype=np.float32)
