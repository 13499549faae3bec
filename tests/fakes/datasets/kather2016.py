"""Kather 2016 as Zenodo hands it out, two tiles of each class, with the three ways in which a scan's part is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save

FOLDERS = (
    "01_TUMOR",
    "02_STROMA",
    "03_COMPLEX",
    "04_LYMPHO",
    "05_DEBRIS",
    "06_MUCOSA",
    "07_ADIPOSE",
    "08_EMPTY",
)


def write(folder: Path, *, seed: int = 0, size: Size = (20, 20)) -> dict[str, Fact]:
    """Writes the tiles; returns what is known of each."""
    rng = np.random.default_rng(seed)
    facts = {}
    for k, name in enumerate(FOLDERS):
        for number, scan in (("10009", "03_009"), (f"1A{k}F", "10c" if k % 2 else "07_022b")):
            tile = f"{number}_CRC-Prim-HE-{scan}.tif_Row_301_Col_151.tif"
            path = f"Kather_texture_2016_image_tiles_5000/{name}/{tile}"
            save(folder / path, image(rng, size))
            facts[path] = Fact(f"CRC-Prim-HE-{scan[:2]}", name[3:].lower())
    return facts
