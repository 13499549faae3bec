"""A tiny PanNuke: three folds of float64 arrays; the masks number one square nucleus of a different kind in each tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.pieces import pixels

TISSUES = ("Breast", "Bile-duct", "HeadNeck")
SIDE = 32
"""Side of the nucleus in tile 0 of each fold, which is neoplastic; it lies at the upper left corner."""


def write(folder: Path, *, seed: int = 0, n: int = 3) -> dict[int, list[str]]:
    """Writes `n` tiles of each fold: tile k has one nucleus of channel k; returns the tissues of each fold."""
    found = {}
    for fold in (1, 2, 3):
        images_NHWC = np.stack([pixels(seed + fold * n + row, 256, 256) for row in range(n)]).astype(
            np.float64
        )
        masks_NHWK = np.zeros((n, 256, 256, 6))
        for row in range(n):
            masks_NHWK[row, :SIDE, :SIDE, row % 5] = row + 7
        masks_NHWK[..., 5] = masks_NHWK[..., :5].max(axis=3) == 0
        words = [TISSUES[(fold + row) % 3] for row in range(n)]
        images, masks = folder / f"Fold {fold}/images/fold{fold}", folder / f"Fold {fold}/masks/fold{fold}"
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        np.save(images / "images.npy", images_NHWC)
        np.save(images / "types.npy", np.array(words))
        np.save(masks / "masks.npy", masks_NHWK)
        found[fold] = words
    return found
