"""A tiny SICAPv2: JPEG images, PNG masks, the workbooks of the test partition, and an image without a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.pieces import mask, picture, workbook

HEADER = ("image_name", "NC", "G3", "G4", "G5", "G4C")
TRAIN = (
    ("16B0001851_Block_Region_1_0_7_xini_6803_yini_59786.jpg", 1, 0, 0, 0, 0),
    ("18B0005478A_Block_Region_2_1_1_xini_10_yini_20.jpg", 0, 1, 0, 0, 0),
    ("18B0005478J_Block_Region_13_0_0_xini_10_yini_20.jpg", 0, 0, 1, 0, 1),
)
TEST = (("17B0031053_Block_Region_0_0_0_xini_1_yini_2.jpg", 0, 0, 0, 1.0, 0),)
UNLABELLED = "16B0003388_Block_Region_5_0_0_xini_1_yini_2.jpg"


def write(folder: Path, *, seed: int = 0) -> None:
    """Writes five images, of which four have a label."""
    root = folder / "SICAPv2"
    for number, name in enumerate([*(row[0] for row in (*TRAIN, *TEST)), UNLABELLED]):
        picture(root / "images" / str(name), seed + number, 64, 64)
        mask(root / "masks" / str(name).replace(".jpg", ".png"), np.full((64, 64), number % 4, np.uint8))
    workbook(root / "partition/Test/Train.xlsx", {"Sheet1": [HEADER, *TRAIN]})
    workbook(root / "partition/Test/Test.xlsx", {"Sheet1": [HEADER, *TEST]})
    workbook(root / "partition/Validation/Val1/Train.xlsx", {"Sheet1": [HEADER, TRAIN[0]]})
    workbook(root / "partition/Validation/Val1/Test.xlsx", {"Sheet1": [HEADER, *TRAIN[1:]]})
