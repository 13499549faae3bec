"""Use case 6: tiles by patient and class; with `twice`, the Kaggle copy that holds all of them a second time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save

FACTS = {
    "10253/0/10253_idx5_x1351_y1101_class0.png": Fact("10253", "absent"),
    "10253/1/10253_idx5_x501_y351_class1.png": Fact("10253", "present"),
    "8863/0/8863_idx5_x51_y1251_class0.png": Fact("8863", "absent"),
}


def write(folder: Path, *, seed: int = 0, size: Size = (50, 50), twice: bool = False) -> dict[str, Fact]:
    """Writes the tiles, the last one cut at an edge; returns what is known of each."""
    rng = np.random.default_rng(seed)
    for k, name in enumerate(FACTS):
        tile = image(rng, size if k + 1 < len(FACTS) else (size[0], size[1] // 2))
        save(folder / name, tile)
        if twice:
            save(folder / "IDC_regular_ps50_idx5" / name, tile)
    return dict(FACTS)
