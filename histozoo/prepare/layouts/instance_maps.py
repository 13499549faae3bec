"""MATLAB files as HoVer-Net's authors write them: an instance map, and sometimes a map of types, of the picture's size."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histozoo.prepare.pictures import Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source


def read(source: Source, name: str, keys: Collection[str], size: Size) -> dict[str, NDArray[np.int64]]:
    """Returns maps of whole numbers (H, W) of a MATLAB file, which stores them as float64.

    Args:
        source: Where the file lies.
        name: Its member name.
        keys: Names of the maps.
        size: Width and height of the picture in pixels.

    Raises:
        UsageError: `HZ-U73`, there is no such file or map, it is of another size or does not hold whole numbers from 0.
    """
    from histozoo.prepare.annotations import mat

    arrays = mat(source, name, keys=keys)
    return {key: _numbers(arrays[key], key, size, name) for key in keys}


def _numbers(map_HW: NDArray[Any], key: str, size: Size, name: str) -> NDArray[np.int64]:
    if map_HW.shape != (size[1], size[0]):
        expected, got = f"{size[0]} x {size[1]} px", f"shape {map_HW.shape}"
        raise malformed(
            "a mask is of another size than its picture", f"{name}, {key}", expected=expected, got=got
        )
    real = map_HW.dtype.kind in "buif" and np.isfinite(map_HW).all()
    if not real or (map_HW < 0).any() or (map_HW % 1).any():
        raise malformed(
            "a map does not hold whole numbers", f"{name}, {key}", expected="0 and above", got=map_HW.dtype
        )
    return map_HW.astype(np.int64)
