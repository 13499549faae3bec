"""A tiny MHIST: PNG images and `annotations.csv`."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import csv_file, picture

HEADER = (
    "Image Name",
    "Majority Vote Label",
    "Number of Annotators who Selected SSA (Out of 7)",
    "Partition",
)
ROWS = (
    ("MHIST_aaa.png", "SSA", 6, "train"),
    ("MHIST_aab.png", "HP", 0, "train"),
    ("MHIST_aac.png", "HP", 3, "test"),
    ("MHIST_aae.png", "SSA", 4, "test"),
)


def write(folder: Path, *, seed: int = 0) -> tuple[tuple[str, str, int, str], ...]:
    """Writes the four images; returns the rows of the table."""
    for number, row in enumerate(ROWS):
        picture(folder / "images" / row[0], seed + number, 32, 32)
    csv_file(folder / "annotations.csv", [HEADER, *ROWS])
    return ROWS
