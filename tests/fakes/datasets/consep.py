"""A tiny CoNSeP: PNG pictures and MATLAB files with instances and types."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.pieces import instances, mat_file, picture

PX = 128
"""Side of a picture; real ones have 1,000 px."""
NUCLEI = [(0, 0, 16, 16), (100, 0, 110, 10)]
TYPES = (2, 4)
"""Type of each nucleus: inflammatory, and malignant epithelial."""


def write(folder: Path, *, seed: int = 0) -> None:
    """Writes two training pictures and one of the test, each with two nuclei."""
    instances_HW = instances(PX, PX, NUCLEI)
    types_HW = np.array([0, *TYPES], np.uint8)[instances_HW]
    for number, (split, stem) in enumerate((("Train", "train_1"), ("Train", "train_2"), ("Test", "test_1"))):
        picture(folder / f"CoNSeP/{split}/Images/{stem}.png", seed + number, PX, PX)
        picture(folder / f"CoNSeP/{split}/Overlay/{stem}.png", seed + number, PX, PX)
        mat_file(
            folder / f"CoNSeP/{split}/Labels/{stem}.mat",
            inst_map=instances_HW,
            type_map=types_HW,
            inst_type=[[kind] for kind in TYPES],
            inst_centroid=[[8, 8], [105, 5]],
        )
