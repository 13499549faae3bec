"""Two tiny microarray spots of Arvaniti et al. per cohort: JPEG spots, palette masks, one spot without a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.pieces import mask, picture

PX = 96
"""Side of a spot; real ones have about 3,100 px."""
PALETTE = (0, 255, 0, 0, 0, 255, 255, 255, 0, 255, 0, 0, 255, 255, 255)
SPOTS = {"ZT111_4_A_1_1": "ZT111_4_A", "ZT76_39_A_1_1": "ZT76_39_A", "ZT80_38_C_2_3": "ZT80_38_C"}
NO_MASK = "ZT111_4_A_1_2"


def write(folder: Path, *, seed: int = 0) -> dict[str, str]:
    """Writes the spots; the left half of a mask is Gleason 3, the right one Gleason 5, the lowest quarter is not annotated."""
    grades_HW = np.full((PX, PX), 1, np.uint8)
    grades_HW[:, PX // 2 :] = 3
    grades_HW[3 * PX // 4 :] = 4
    for number, (spot, block) in enumerate({**SPOTS, NO_MASK: "ZT111_4_A"}.items()):
        picture(folder / block / f"{spot}.jpg", seed + number, PX, PX)
        if spot == NO_MASK:
            continue
        if spot.startswith("ZT80"):
            mask(folder / f"Gleason_masks_test_pathologist1/mask1_{spot}.png", grades_HW, palette=PALETTE)
            mask(folder / f"Gleason_masks_test_pathologist2/mask2_{spot}.png", 0 * grades_HW, palette=PALETTE)
        else:
            mask(folder / f"Gleason_masks_train/mask_{spot}.png", grades_HW, palette=PALETTE)
    return SPOTS
