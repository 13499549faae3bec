"""A tiny Camelyon17-WILDS: PNG tiles in one folder per node, and `metadata.csv` as pandas writes it."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import csv_file, picture

HEADER = ("", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split")
ROWS = (
    (0, "004", 4, 3328, 21792, 1, 0, 0, 0),
    (1, "004", 4, 3200, 22272, 0, 0, 0, 1),
    (2, "020", 2, 10, 20, 1, 10, 1, 0),
    (3, "040", 0, 30, 40, 0, 20, 2, 1),
    (4, "072", 0, 50, 60, 0, 30, 3, 0),
)


def write(folder: Path, *, seed: int = 0) -> tuple[tuple[object, ...], ...]:
    """Writes five tiles of four patients; returns the rows of the table."""
    for number, (_, patient, node, x, y, *_rest) in enumerate(ROWS):
        stem = f"patient_{patient}_node_{node}"
        picture(
            folder / f"camelyon17_v1.0/patches/{stem}/patch_{stem}_x_{x}_y_{y}.png", seed + number, 96, 96
        )
    csv_file(folder / "camelyon17_v1.0/metadata.csv", [HEADER, *ROWS])
    return ROWS
