"""A tiny NCT-CRC-HE-100K and CRC-VAL-HE-7K: TIFF tiles in class folders, and the unnormalised set beside them, which must not be read."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import picture

CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")


def write(folder: Path, *, seed: int = 0, n: int = 2) -> dict[str, int]:
    """Writes `n` tiles of each class in training and one in the test; returns the tiles of each split."""
    for number, word in enumerate(CLASSES):
        for i in range(n):
            picture(folder / f"NCT-CRC-HE-100K/{word}/{word}-AAAA{i}.tif", seed + number, 32, 32)
            picture(folder / f"NCT-CRC-HE-100K-NONORM/{word}/{word}-AAAA{i}.tif", seed + number, 32, 32)
        picture(folder / f"CRC-VAL-HE-7K/{word}/{word}-TCGA-BBBB.tif", seed + number + 20, 32, 32)
    return {"train": n * len(CLASSES), "test": len(CLASSES)}
