"""CRCHistoPhenotypes: images with `.mat` files, one image without any inflammatory nucleus, and the folder Detection beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.fakes.datasets.drawing import Fact, Size, image, save

CENTRES = {
    "img1": {
        "epithelial": [[10.0, 10.0], [399.9, 20.0]],
        "fibroblast": [[250.0, 250.0]],
        "inflammatory": [[99.6, 5.0], [100.0, 305.2], [450.5, 499.4]],
        "others": [],
    },
    "img2": {"epithelial": [[300.0, 30.0]], "fibroblast": [], "inflammatory": [], "others": [[1.0, 1.0]]},
}
"""x and y of each nucleus, by image and class."""

INFLAMMATORY = {"img1": {(0, 0), (1, 3), (4, 4)}, "img2": set()}
"""Columns and rows of the tiles of 100 px that hold an inflammatory nucleus, by image."""


def write(folder: Path, *, seed: int = 0, size: Size = (50, 50)) -> dict[str, Fact]:
    """Writes the images and centres; returns what is known of each."""
    rng = np.random.default_rng(seed)
    facts = {}
    for name, kinds in CENTRES.items():
        picture = image(rng, size)
        at = folder / "CRCHistoPhenotypes_2016_04_28"
        for part in ("Classification", "Detection"):
            save(at / part / name / f"{name}.bmp", picture)
        for kind, points in kinds.items():
            _centres(at / "Classification" / name / f"{name}_{kind}.mat", points)
        _centres(
            at / "Detection" / name / f"{name}_detection.mat",
            [p for points in kinds.values() for p in points],
        )
        facts[f"CRCHistoPhenotypes_2016_04_28/Classification/{name}/{name}.bmp"] = Fact(name)
    return facts


def _centres(path: Path, points: list[list[float]]) -> None:
    savemat(path, {"detection": np.array(points) if points else np.zeros((0, 0))})
