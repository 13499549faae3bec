"""Synthetic tiles that look a little like H&E, and labelled folders of them; the same numbers give the same bytes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KINDS = 4
"""Kinds of tissue that `draw_tile` tells apart: from few small nuclei to many large ones."""

_WHITE, _EOSIN, _HAEMATOXYLIN = (
    np.array(c, dtype=np.float64) for c in ((243, 240, 245), (228, 160, 198), (92, 60, 140))
)


def draw_tile(rng: np.random.Generator, px: int, kind: int) -> NDArray[np.uint8]:
    """Returns a tile, uint8 `[px, px, 3]`: pink stroma with gaps, and purple nuclei whose number and size follow `kind`."""
    y, x = np.mgrid[0:px, 0:px] / px
    waves = sum(
        rng.normal() * np.sin(2 * np.pi * (fx * x + fy * y) + rng.uniform(0, 6.3))
        for fx, fy in rng.uniform(-4, 4, (8, 2))
    )
    stroma = 1 / (1 + np.exp(-(waves + 1.0)))
    tile = _WHITE + stroma[..., None] * (_EOSIN - _WHITE)
    kind %= KINDS
    for _ in range(10 + 8 * kind):
        centre, angle, length = (
            rng.uniform(0, 1, 2),
            rng.uniform(0, np.pi),
            rng.uniform(0.7, 1.3) * (0.03 + 0.012 * kind),
        )
        across = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
        along = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
        inside = np.exp(-(((across / length) ** 2 + (along / (1.6 * length)) ** 2) ** 2))
        tile += inside[..., None] * (_HAEMATOXYLIN - tile) * rng.uniform(0.7, 1.0)
    return np.clip(tile + rng.normal(0, 3, tile.shape), 0, 255).astype(np.uint8)


def write_table(
    folder: Path,
    n: int,
    classes: Sequence[str],
    *,
    px: int = 64,
    groups: int = 6,
    seed: int = 0,
    separator: str = ",",
) -> Path:
    """Writes `n` PNG tiles of each class in `groups` groups per class under `folder/images`, and `folder/labels.csv`; returns `folder`."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter=separator)
        table.writerow(["file", "label", "group", "split"])
        for kind, name in enumerate(classes):
            for i in range(n):
                tile = f"images/{name}_{i:03d}.png"
                Image.fromarray(draw_tile(rng, px, kind)).save(folder / tile)
                table.writerow([tile, name, f"{name}-{i % groups}", ""])
    return folder
