"""Linder's images: the class is the first character of a name; where they lie and of which type is not documented."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, image, save

FACTS = {
    "0_60570_Oncotex_str_valid.png": Fact("60570", "epithelium"),
    "0_60570_Oncotex_str_valid_0.png": Fact("60570", "epithelium"),
    "1_60414_Oncotex_str_valid.png": Fact("60414", "stroma"),
}


def write(folder: Path, *, seed: int = 0) -> dict[str, Fact]:
    """Writes images of different size; returns what is known of each."""
    rng = np.random.default_rng(seed)
    for k, name in enumerate(FACTS):
        save(folder / name, image(rng, (29 + 20 * k, 30 + 20 * k)))
    return dict(FACTS)
