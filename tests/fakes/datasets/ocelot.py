"""A tiny OCELOT 2023: JPEG pictures of cells and tissue, headerless tables of cells, an empty one among them, and `metadata.json`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fakes.datasets.pieces import csv_file, picture

PX = 256
"""Side of a cell picture; real ones have 1,024 px."""
CELLS = {"001": [(10, 20, 1), (130, 5, 2)], "002": [], "401": [(127, 127, 2)], "538": [(200, 250, 1)]}
SPLITS = {"001": "train", "002": "train", "401": "val", "538": "test"}
SLIDES = {
    "001": "TCGA-BL-A0C8-01Z-00-DX1",
    "002": "TCGA-BL-A0C8-01A-01-TS1",
    "401": "TCGA-B0-5698-01Z-00-DX1",
    "538": "TCGA-CH-5767-01Z-00-DX1",
}


def write(folder: Path, *, seed: int = 0) -> dict[str, str]:
    """Writes four pairs; returns the split of each number."""
    root = folder / "ocelot2023_v1.0.1"
    for number, split in SPLITS.items():
        for part in ("cell", "tissue"):
            picture(root / f"images/{split}/{part}/{number}.jpg", seed + int(number), PX, PX)
        csv_file(root / f"annotations/{split}/cell/{number}.csv", CELLS[number])
    pairs = {
        n: {"slide_name": slide, "organ": "bladder", "mpp_x": 0.2, "mpp_y": 0.2}
        for n, slide in SLIDES.items()
    }
    (root / "metadata.json").write_text(json.dumps({"sample_pairs": pairs}), encoding="utf-8")
    return SPLITS
