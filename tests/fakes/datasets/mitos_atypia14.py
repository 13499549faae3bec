"""MITOS-ATYPIA 14: one slide scanned twice, frames of three magnifications, CSV files of which most are empty, and a test slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save

ROWS = {
    "A03_00Aa": ("1094,1223,1.0\n1375,40,0.8\n", "700,500,0.3\n"),
    "A03_00Ab": ("", ""),
    "H03_00Aa": ("", "1000,20,0.2\n"),
}
"""Lines of both CSV files of each frame."""


def write(folder: Path, *, seed: int = 0, size: Size = (30, 26)) -> dict[str, Fact]:
    """Writes frames and CSV files; returns what is known of each 40x frame that is annotated."""
    rng = np.random.default_rng(seed)
    facts = {}
    for stem, (mitosis, other) in ROWS.items():
        slide = f"Training {'Aperio' if stem[0] == 'A' else 'Hamamatsu'}/{stem[:3]}"
        save(folder / slide / f"frames/x40/{stem}.tiff", image(rng, size))
        save(folder / slide / f"frames/x20/{stem[:-1]}.tiff", image(rng, size))
        (folder / slide / "mitosis").mkdir(exist_ok=True)
        (folder / slide / f"mitosis/{stem}_mitosis.csv").write_text(mitosis)
        (folder / slide / f"mitosis/{stem}_not_mitosis.csv").write_text(other)
        save(folder / slide / f"mitosis/{stem}_mitosis.jpg", image(rng, size))
        facts[f"{slide}/frames/x40/{stem}.tiff"] = Fact("slide-03")
    save(folder / "Testing Aperio/A06/frames/x40/A06_00Aa.tiff", image(rng, size))
    return facts
