"""The colour histogram: a baseline without weights, which says how much of a task colours alone give away.

The joint histogram of red, green and blue with 8 equal bins per channel, 512 in all, as a share of the pixels (Swain and Ballard 1991,
"Color indexing"). It knows nothing of where a pixel lies, so no flip or rotation changes it; a model that does not beat it has not been
shown to see tissue.

Shapes: N tiles, H W pixels, C channels, D bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAME = "colour-histogram"
BINS = 8
TILE_PX = 64
"""Side at which tasks are read for it; any other gives nearly the same shares."""

PARAMETERS = {"colours": "RGB", "joint": True, "bins_per_channel": BINS, "version": 1}


def features(tiles_NHWC: NDArray[np.uint8], *, batch: int = 128) -> NDArray[np.float32]:
    """Returns the share of each tile's pixels in each bin, `[N, 512]`, red slowest; rows sum to 1.

    Args:
        tiles_NHWC: uint8 RGB of any size.
        batch: Tiles at once; changes memory, not the result.
    """
    bins = BINS**3
    found_ND = np.empty((len(tiles_NHWC), bins), dtype=np.float32)
    for start in range(0, len(tiles_NHWC), batch):
        cell_BHW = cells(tiles_NHWC[start : start + batch])
        cell_BP = cell_BHW.reshape(len(cell_BHW), -1)
        offset_B1 = bins * np.arange(len(cell_BP))[:, None]
        counts = np.bincount((cell_BP + offset_B1).ravel(), minlength=bins * len(cell_BP))
        found_ND[start : start + batch] = counts.reshape(-1, bins) / cell_BP.shape[1]
    return found_ND


def cells(pixels_C: NDArray[np.uint8], bins: int = BINS) -> NDArray[np.int64]:
    """Returns the bin (red slowest, `bins` of each channel) of each uint8 RGB pixel, `[..., 3] -> [...]`."""
    level_C = pixels_C.astype(np.int64) * bins // 256
    cell: NDArray[np.int64] = (level_C[..., 0] * bins + level_C[..., 1]) * bins + level_C[..., 2]
    return cell
