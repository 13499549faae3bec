"""Use case 5: images and masks in which every blob is a mitosis; patient 10 has none, and intermediate files lie beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save, save_mask

BLOBS = {
    "01_01": ((600, 700, 621, 711), (1990, 0, 2000, 9)),
    "02_01": ((100, 100, 110, 110), (110, 110, 120, 120)),
    "10_01": (),
}
"""Boxes drawn in the mask of each image; those of 02_01 touch in a corner."""


def write(folder: Path, *, seed: int = 0, size: Size = (2000, 2000)) -> dict[str, Fact]:
    """Writes the images, small ones, and masks of `size`; returns what is known of each."""
    rng = np.random.default_rng(seed)
    facts = {}
    for stem, boxes in BLOBS.items():
        save(folder / f"{stem}.tif", image(rng, (20, 20)))
        mask_HW = np.zeros((size[1], size[0]), bool)
        for left, top, right, bottom in boxes:
            mask_HW[top:bottom, left:right] = True
        save_mask(folder / f"{stem}_pc.png", mask_HW)
        save_mask(folder / f"{stem}_cmask.png", ~mask_HW[:8, :8])
        facts[f"{stem}.tif"] = Fact(stem[:2])
    return facts
