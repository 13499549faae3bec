"""Tasks cut from the same photographs at other places and sizes: found by equal group names, proved by matching the pixels.

Equal names alone prove little ("patient1" is everywhere). So the middle of a tile of one task is looked for in the tiles of the other
task's group of the same name, at every place, and compared with the same search in groups of other names.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.audit.reading import Rows
from histozoo.data.decoding import decode
from histozoo.data.feature import split_fragment
from histozoo.errors import HistozooError

MATCH = 0.9
"""Least correlation of a piece at its best place; JPEG at a quality of 75 leaves 0.95 of it, another cell of the same kind 0.5 to 0.7."""
_LEAST_NAMES, _TRIED, _PER_GROUP = 3, 24, 3
_MOST_PX, _PIECE_PX, _LEAST_PX = 512, 64, 24


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What two tasks share by name.

    Args:
        names: Number of group names in both.
        share: Of the smaller number of groups.
        tried: Names that were looked at.
        matched: Of those, with a piece of one task in a tile of the other.
        matched_by_chance: The same search between groups of different names.
        first: Some of the matched names.
        common: Some of the names in both.
    """

    names: int
    share: float
    tried: int
    matched: int
    matched_by_chance: int
    first: tuple[str, ...]
    common: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return {**asdict(self), "first": list(self.first), "common": list(self.common)}

    @property
    def proved(self) -> bool:
        """Whether pixels say that equal names are the same photographs."""
        return (
            self.matched >= max(_LEAST_NAMES, self.tried // 5) and self.matched > 3 * self.matched_by_chance
        )


def shared_frames(first: Rows, second: Rows) -> Shared | None:
    """Compares two tasks; None where fewer than three group names are in both."""
    a, b = _by_group(first), _by_group(second)
    names = sorted(set(a) & set(b))
    if len(names) < _LEAST_NAMES:
        return None
    tried = names[:: max(1, len(names) // _TRIED)][:_TRIED]
    matched = [name for name in tried if _any_match(first, a[name], second, b[name])]
    others = [*tried[1:], tried[0]]
    by_chance = sum(_any_match(first, a[x], second, b[y]) for x, y in zip(tried, others, strict=True))
    share = len(names) / min(len(a), len(b))
    return Shared(
        names=len(names),
        share=share,
        tried=len(tried),
        matched=len(matched),
        matched_by_chance=by_chance,
        first=tuple(matched[:5]),
        common=tuple(tried[:5]),
    )


def _by_group(rows: Rows) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(rows.groups):
        found[group].append(row)
    return found


def _any_match(first: Rows, a: list[int], second: Rows, b: list[int]) -> bool:
    tiles_a, tiles_b = (
        [_grey(rows.stored[i]) for i in chosen[:_PER_GROUP]] for rows, chosen in ((first, a), (second, b))
    )
    pairs = [(x, y) for x in tiles_a for y in tiles_b if x is not None and y is not None]
    return any(max(best_match(x, y), best_match(y, x)) >= MATCH for x, y in pairs)


def _grey(stored: dict[str, Any]) -> NDArray[np.float32] | None:
    """Returns the whole stored picture in grey, its middle where it is large."""
    try:
        image = decode(stored["bytes"] if stored["bytes"] is not None else split_fragment(stored["path"])[0])
    except HistozooError:
        return None
    grey_HW = np.asarray(image.convert("L"), dtype=np.float32)
    top, left = (max(0, side - _MOST_PX) // 2 for side in grey_HW.shape)
    return grey_HW[top : top + _MOST_PX, left : left + _MOST_PX]


def best_match(inside_HW: NDArray[np.float32], whole_HW: NDArray[np.float32]) -> float:
    """Returns the highest correlation of the middle of one picture with any place in another, in [-1, 1]; 0 where there is no texture."""
    px = min(_PIECE_PX, *(round(0.7 * side) for side in (*inside_HW.shape, *whole_HW.shape)))
    if px < _LEAST_PX:
        return 0.0
    top, left = ((side - px) // 2 for side in inside_HW.shape)
    piece = inside_HW[top : top + px, left : left + px]
    piece = piece - piece.mean()
    power = float(np.square(piece).sum())
    if power < 9.0 * px * px:  # less than 3 grey levels of contrast
        return 0.0
    shape = whole_HW.shape
    spectrum = np.fft.rfft2(whole_HW - whole_HW.mean()) * np.fft.rfft2(piece, shape).conj()
    product = np.fft.irfft2(spectrum, shape)[: shape[0] - px + 1, : shape[1] - px + 1]
    local = np.maximum(_window_power(whole_HW, px), 1.0)
    return float((product / np.sqrt(local * power)).max())


def _window_power(whole_HW: NDArray[np.float32], px: int) -> NDArray[np.float64]:
    """Returns the sum of squared deviations from the mean in every window of `px`."""
    sums = [
        np.pad(x.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0))) for x in (whole_HW, whole_HW**2)
    ]
    one, two = (s[px:, px:] - s[:-px, px:] - s[px:, :-px] + s[:-px, :-px] for s in sums)
    return np.asarray(two - one**2 / px**2)
