"""Copies of one picture that were turned by any angle, mirrored or enlarged about their centre: how augmentation tools make them.

A tile is sampled on rings about its centre, their radii in geometric steps (log-polar: turning becomes a shift along the rings, enlarging a
shift across them). The magnitude of the Fourier transform of that map hardly changes under either (Fourier-Mellin; Casasent and Psaltis,
1976), so equal pictures are found as neighbours by it; each such pair is then correlated at every angle, for mirrored and plain, and at
enlargements up to two. The map holds contrast against a small neighbourhood, in units of the local contrast, and each ring's mean is taken
out: neither a round cell nor the edge of the tissue makes two pictures alike.

Shapes: N tiles, P pairs, R rings, A angles, S signature entries, C colours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo.data.tiles import fit

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]

PX = 96
"""Side of the tile that is sampled."""
R, A = 32, 96
_INNER_PX, _OUTER_PX = 4.0, PX / 2 - 1
_COARSE = 4

CORRELATION = 0.55
"""Least correlation of the contrast of two tiles for a pair. On LC25000, whose turned copies are known, 90 of 100 true candidates are above
and of 18,000 others only such as are copies to the eye; on sets without copies none was above."""
COLOUR = 25.0
"""Largest root mean square difference of the aligned colours, in grey levels: augmentation changes little, another stain much."""
TEXTURE = 0.3
"""Least mean square of the contrast where the two overlap: below, there is little to compare."""

_NEIGHBOURS, _DIMENSIONS, _BLOCK = 6, 96, 1024
_SCALE = 32
_MOST_SHIFT = 10
_PROMISING = 0.25


class Ringed(NamedTuple):
    """One tile on its rings: contrast int8 `[R, A]` (32 per unit) and mean colours uint8 `[R / 4, A / 4, 3]`."""

    contrast_RA: NDArray[np.int8]
    colour_raC: NDArray[np.uint8]


def ringed(tile_HWC: NDArray[np.uint8]) -> Ringed:
    """Samples one tile, uint8 RGB `[PX, PX, 3]`."""
    corners_4C = tile_HWC.reshape(-1, 3)[_AT_4].astype(np.float32)
    map_RAC = np.einsum("kp,kpc->pc", _WEIGHT_4, corners_4C).reshape(R, A, 3)
    contrast_RA = _contrast(map_RAC.mean(axis=2))
    coarse = map_RAC.reshape(R // _COARSE, _COARSE, A // _COARSE, _COARSE, 3).mean(axis=(1, 3))
    stored = np.clip(np.rint(contrast_RA * _SCALE), -127, 127).astype(np.int8)
    return Ringed(stored, np.rint(coarse).astype(np.uint8))


def _sampling() -> tuple[NDArray[np.int64], Floats]:
    """Returns the flat indices of four pixels per sample and their bilinear weights, `[4, R * A]` each."""
    radius_R = _INNER_PX * (_OUTER_PX / _INNER_PX) ** (np.arange(R) / (R - 1))
    angle_A = 2 * np.pi * np.arange(A) / A
    y = ((PX - 1) / 2 + radius_R[:, None] * np.sin(angle_A)).ravel()
    x = ((PX - 1) / 2 + radius_R[:, None] * np.cos(angle_A)).ravel()
    y0, x0 = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    fy, fx = y - y0, x - x0
    at = y0 * PX + x0
    weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx])
    return np.stack([at, at + 1, at + PX, at + PX + 1]), weights.astype(np.float32)


_AT_4, _WEIGHT_4 = _sampling()


def _contrast(grey_RA: Floats) -> Floats:
    """Returns fine contrast in units of its local strength, each ring's mean taken out."""
    fine = _blur(grey_RA, 1) - _blur(grey_RA, 3)
    # 4 grey levels: below that it is noise, and stays small.
    even = fine / np.sqrt(_blur(fine * fine, 3) + 16.0)
    return np.asarray(even - even.mean(axis=1, keepdims=True), dtype=np.float32)


def _blur(map_RA: Floats, reach: int) -> Floats:
    """Returns the mean over a square of side 2 * reach + 1, wrapping round the rings."""
    padded = np.pad(
        np.pad(map_RA, ((reach, reach), (0, 0)), mode="edge"), ((0, 0), (reach, reach)), mode="wrap"
    )
    total = np.pad(padded.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    k = 2 * reach + 1
    square = total[k:, k:] - total[:-k, k:] - total[k:, :-k] + total[:-k, :-k]
    return np.asarray(square / k**2, dtype=np.float32)


# -- search ----------------------------------------------------------------------------------------------------------------------------


def find_turned(contrast_NRA: NDArray[np.int8], colour_NraC: NDArray[np.uint8]) -> tuple[Pairs, Floats]:
    """Returns the pairs of rows that show one picture, turned, mirrored or enlarged, and their correlations.

    Each tile is compared with the six most like it by signature, so of more than seven copies of one picture some pairs are not listed, but
    every copy has a partner. Takes N^2 multiplications of 96 numbers and memory in proportion to N.

    Args:
        contrast_NRA: Of `ringed`, stacked.
        colour_NraC: Of `ringed`, stacked.

    Returns:
        int64 `[P, 2]`, smaller row first, sorted; float32 `[P]`.
    """
    pairs = _neighbours(_signatures(contrast_NRA))
    kept, strength = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.float32)]
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        found = align(contrast_NRA, block)
        good = np.flatnonzero(found.correlation_P >= CORRELATION)
        same = [i for i in good.tolist() if _colour_difference(colour_NraC, block[i], found, i) <= COLOUR]
        kept.append(block[same])
        strength.append(found.correlation_P[same])
    return np.concatenate(kept), np.concatenate(strength)


def turned_pairs(tiles_NHWC: NDArray[np.uint8]) -> Pairs:
    """Returns the pairs of rows that show one picture, turned by any angle, mirrored or enlarged; about 5 ms per tile.

    Args:
        tiles_NHWC: uint8 RGB `[N, px, px, 3]`; sampled at a side of `PX` pixels.

    Returns:
        int64 `[P, 2]`, smaller row first, sorted; what `find_turned` does not guarantee, this does not either.
    """
    if len(tiles_NHWC) < 2:
        return np.empty((0, 2), dtype=np.int64)
    found = [ringed(fit(Image.fromarray(tile), PX)) for tile in tiles_NHWC]
    return find_turned(np.stack([f.contrast_RA for f in found]), np.stack([f.colour_raC for f in found]))[0]


def _signatures(contrast_NRA: NDArray[np.int8]) -> Floats:
    """Returns unit vectors `[N, S]` that do not change under turning and mirroring, and little under enlarging."""
    window_R1 = np.hanning(R + 2)[1:-1, None].astype(np.float32)
    parts = []
    for start in range(0, len(contrast_NRA), _BLOCK):
        block = contrast_NRA[start : start + _BLOCK].astype(np.float32) * window_R1
        along = np.fft.rfft(block, axis=2)[:, :, 1:25]
        size = np.abs(np.fft.fft(along, axis=1)).astype(np.float32)
        plain, mirrored = size[:, :9], size[:, -np.arange(9)]
        both = np.concatenate([plain + mirrored, np.abs(plain - mirrored)], axis=1)
        parts.append(np.log1p(both.reshape(len(block), -1) / _SCALE))
    s_NS = np.concatenate(parts)
    s_NS -= s_NS.mean(axis=0)
    s_NS /= s_NS.std(axis=0) + 1e-6
    s_NS = _principal(s_NS)
    s_NS /= np.linalg.norm(s_NS, axis=1, keepdims=True) + 1e-6
    return s_NS


def _principal(s_NS: Floats) -> Floats:
    """Returns the directions that vary most; fewer numbers to multiply, and the rest is noise."""
    some = s_NS[:: max(1, len(s_NS) // 20_000)]
    _, vectors = np.linalg.eigh(some.T.astype(np.float64) @ some)
    return np.asarray(s_NS @ vectors[:, -_DIMENSIONS:].astype(np.float32), dtype=np.float32)


def _neighbours(s_NS: Floats) -> Pairs:
    """Returns each row with the rows most like it, as sorted pairs."""
    k = min(_NEIGHBOURS, len(s_NS) - 1)
    if k < 1:
        return np.empty((0, 2), dtype=np.int64)
    found = []
    for start in range(0, len(s_NS), _BLOCK):
        like = s_NS[start : start + _BLOCK] @ s_NS.T
        rows = np.arange(len(like))
        like[rows, start + rows] = -2
        near = np.argpartition(-like, k - 1, axis=1)[:, :k]
        found.append(np.stack([np.repeat(start + rows, k), near.ravel()], axis=1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0).astype(np.int64)


# -- comparison ------------------------------------------------------------------------------------------------------------------------


class Aligned(NamedTuple):
    """The best alignment of each pair: correlation, mirrored or not, rings shifted, angle shifted."""

    correlation_P: Floats
    mirrored_P: NDArray[np.bool_]
    rings_P: NDArray[np.int64]
    angle_P: NDArray[np.int64]


def align(contrast_NRA: NDArray[np.int8], pairs: Pairs) -> Aligned:
    """Correlates pairs at every angle, plain and mirrored, and at all enlargements; first coarsely, then only where there is hope."""
    best = Aligned(
        np.full(len(pairs), -1, np.float32),
        np.zeros(len(pairs), bool),
        np.zeros(len(pairs), np.int64),
        np.zeros(len(pairs), np.int64),
    )
    coarse = range(-_MOST_SHIFT + 1, _MOST_SHIFT, 3)
    _try(contrast_NRA, pairs, np.arange(len(pairs)), coarse, best)
    hope = np.flatnonzero(best.correlation_P >= _PROMISING)
    fine = [shift for shift in range(-_MOST_SHIFT, _MOST_SHIFT + 1) if shift not in coarse]
    _try(contrast_NRA, pairs, hope, fine, best)
    return best


def _try(
    contrast_NRA: NDArray[np.int8],
    pairs: Pairs,
    rows: NDArray[np.int64],
    shifts: range | list[int],
    best: Aligned,
) -> None:
    first, second = (contrast_NRA[pairs[rows, side]].astype(np.float32) / _SCALE for side in (0, 1))
    f_PRA, g_PRA = np.fft.rfft(first, axis=2), np.fft.rfft(second, axis=2)
    power_f, power_g = (np.pad(np.square(x).sum(2).cumsum(1), ((0, 0), (1, 0))) for x in (first, second))
    for shift in shifts:
        a, b = max(0, shift), min(R, R + shift)
        size_f, size_g = power_f[:, b] - power_f[:, a], power_g[:, b - shift] - power_g[:, a - shift]
        scale = np.where(
            np.minimum(size_f, size_g) < TEXTURE * (b - a) * A, np.inf, np.sqrt(size_f * size_g) + 1e-6
        )
        for mirrored in (False, True):
            other = g_PRA[:, a - shift : b - shift]
            product = np.einsum("pra,pra->pa", f_PRA[:, a:b], other if mirrored else other.conj())
            curve = np.fft.irfft(product, n=A, axis=1)
            angle, value = curve.argmax(1), curve.max(1) / scale
            better = value > best.correlation_P[rows]
            at = rows[better]
            best.correlation_P[at], best.mirrored_P[at] = value[better], mirrored
            best.rings_P[at], best.angle_P[at] = shift, angle[better]


def _colour_difference(
    colour_NraC: NDArray[np.uint8], pair: NDArray[np.int64], found: Aligned, i: int
) -> float:
    """Returns the root mean square difference of two tiles' colours after alignment, in grey levels."""
    first, second = (
        np.repeat(np.repeat(colour_NraC[row].astype(np.float32), _COARSE, 0), _COARSE, 1) for row in pair
    )
    shift, angle = int(found.rings_P[i]), int(found.angle_P[i])
    a, b = max(0, shift), min(R, R + shift)
    second = second[a - shift : b - shift]
    if found.mirrored_P[i]:
        second = np.roll(second[:, ::-1], 1, axis=1)
    return float(np.sqrt(np.square(first[a:b] - np.roll(second, angle, axis=1)).mean()))
