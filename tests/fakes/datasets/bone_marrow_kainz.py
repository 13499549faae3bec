"""Kainz's cells in eight folders; numbers begin again in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save


def write(folder: Path, *, seed: int = 0, size: Size = (32, 32)) -> dict[str, Fact]:
    """Writes two cells of each class; returns what is known of each."""
    rng = np.random.default_rng(seed)
    facts = {}
    for kind in range(8):
        for number in ("0185", "0273"):
            save(folder / f"{kind}/{number}.png", image(rng, size))
            facts[f"{kind}/{number}.png"] = Fact(f"{kind}/{number}", f"cell_{kind}")
    return facts
