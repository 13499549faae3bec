"""A small folder with a table, masks of both kinds and points, whose geometry is known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fakes.tiles import draw_tile

PX = 96
OBJECT = 300
"""Number of the object in each instance mask: more than 8 bits hold."""

ROWS = (
    # file, label, group, split
    ("images/d1_001.png", "few", "p1", "train"),
    ("images/d1_002.png", "few", "p3", "testA"),
    ("images/d1_011.jpg", "many", "p2", "testA"),
)
POINTS = (("images/d1_001.png", 0, 0), ("images/d1_001.png", 47.5, 20), ("images/d1_011.jpg", 95, 95))


def instances(row: int) -> np.ndarray:
    """The object: the left `24 * row` columns, so 0, 24 and 48 of 96."""
    mask_HW = np.zeros((PX, PX), np.uint16)
    mask_HW[:, : 24 * row] = OBJECT
    return mask_HW


def classes(row: int) -> np.ndarray:
    """Value 1 in the upper half, 2 in its left half."""
    mask_HW = np.zeros((PX, PX), np.uint8)
    mask_HW[: PX // 2] = 1
    mask_HW[: PX // 2, : PX // 2] = 2
    return mask_HW


def write(folder: Path, *, masks: str = "instances", rows: Sequence[tuple[str, ...]] = ROWS) -> Path:
    """Writes the dataset into `folder/cells` and returns `folder`; `masks` names the kind of masks."""
    there = folder / "cells"
    (there / "images").mkdir(parents=True)
    (there / "masks").mkdir()
    with (there / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "group", "split", "mask"])
        for n, row in enumerate(rows):
            Image.fromarray(draw_tile(np.random.default_rng(n), PX, n)).save(there / row[0])
            mask = f"masks/{Path(row[0]).stem}.png"
            Image.fromarray(instances(n) if masks == "instances" else classes(n)).save(there / mask)
            table.writerow([*row, mask])
    lines = ["file,x,y", *(f"{name},{x},{y}" for name, x, y in POINTS)]
    (there / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
